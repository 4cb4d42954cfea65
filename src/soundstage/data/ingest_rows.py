"""From what became of each source to the rows of the records: nothing twice, nothing lost.

Every item of the source gives clips, rejects, or both; a clip that was met before is a reject that names the kept one.
Canonical order, source_uri and then span, decides which is kept, so no order of work can.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ..config.tree import IngestConfig
from ..stages.workspace import Workspace
from .normalised import SourceResult, StoredClip, StoredRange, media_path
from .records import REJECT_REASONS
from .sources.item import SourceItem

Row = Mapping[str, Any]
_EXAMPLES = 3


class Ledger:
    """Collects rows of clips and rejects, and counts what went in."""

    def __init__(self, config: IngestConfig, store: Path, workspace: Workspace) -> None:
        self.clips: list[Row] = []
        self._rejects: dict[tuple[str, int, int], Row] = {}
        self._kept: dict[str, str] = {}
        """clip_id -> uri of the source that keeps it"""
        self._items = self._items_kept = 0
        self._uris: set[str] = set()
        self._config = config
        # Once: resolving a path costs a call to the system for each of its folders.
        self._store = workspace.relative(store)

    @property
    def rejects(self) -> list[Row]:
        """Rows of rejects, one for each span of a source."""
        return list(self._rejects.values())

    def add(self, item: SourceItem, result: SourceResult | None, place: int) -> None:
        """Enter an item: `place` is that of its range among those of `result`; items come in canonical order."""
        clips_before = len(self.clips)
        self._items += 1
        self._uris.add(item.uri)
        if result is None or result.reason:
            reason, detail = (item.reason, item.detail) if result is None else (result.reason, result.detail)
            self._reject(item.uri, item.range.start_us, item.range.duration_us, reason, detail)
        else:
            self._add_part(item, result.sha256, result.parts[place])
        self._items_kept += len(self.clips) > clips_before

    def _add_part(self, item: SourceItem, sha256: str, part: StoredRange) -> None:
        for clip in part.clips:
            if clip.clip_id not in self._kept:
                self._kept[clip.clip_id] = item.uri
                self.clips.append(self._clip(item, sha256, clip))
                continue
            detail = f"same bytes as clip {clip.clip_id} of {self._kept[clip.clip_id]}"
            self._reject(item.uri, clip.start_us, clip.duration_us, "exact_duplicate", detail)
        for one in part.rejects:
            self._reject(item.uri, one.start_us, one.duration_us, one.reason, one.detail)

    def _reject(self, uri: str, start_us: int, duration_us: int, reason: str, detail: str) -> None:
        assert reason in REJECT_REASONS, reason
        row = {"source_uri": uri, "start_us": start_us, "duration_us": duration_us, "reason": reason, "detail": detail}
        # Rows of a table that come to the same span are rejected once.
        self._rejects.setdefault((uri, start_us, duration_us), row)

    def _clip(self, item: SourceItem, sha256: str, clip: StoredClip) -> Row:
        return {
            "clip_id": clip.clip_id,
            "source_uri": item.uri,
            "source_sha256": sha256,
            "start_us": clip.start_us,
            "duration_us": clip.duration_us,
            "fps_num": self._config.fps,
            "fps_den": 1,
            "num_frames": clip.num_frames,
            "width": clip.width,
            "height": clip.height,
            "sample_rate": self._config.sample_rate,
            "channels": clip.channels,
            "video_codec": clip.video_codec,
            "audio_codec": clip.audio_codec,
            "caption": item.annotation.caption,
            "caption_from": item.annotation.caption_from,
            "label": item.annotation.label,
            "licence": item.annotation.licence,
            "provenance": item.annotation.provenance,
            "media_sha256": clip.media_sha256,
            "media_uri": media_path(PurePosixPath(self._store), clip.clip_id).as_posix(),
            "group": "",
            "split": "",
            "duplicate_of": "",
        }

    def counts(self) -> dict[str, int]:
        """Counts of the record, after checking that each source has a row.

        A source is kept when it has a clip; `rows` counts what the source lists, which for a table may be several
        spans of one file.
        """
        kept = {row["source_uri"] for row in self.clips}
        rejected = {row["source_uri"] for row in self._rejects.values()} - kept
        assert kept | rejected == self._uris, "a source was lost"
        reasons = Counter(row["reason"] for row in self._rejects.values())
        return {
            "sources": len(self._uris),
            "sources_kept": len(kept),
            "sources_rejected": len(rejected),
            "rows": self._items,
            "rows_kept": self._items_kept,
            "rows_rejected": self._items - self._items_kept,
            "clips": len(self.clips),
            "rejects": len(self._rejects),
            **{f"reject_{reason}": reasons[reason] for reason in sorted(reasons)},
        }

    def all_rejected(self, origin: str) -> str:
        """What to say when no clip is left."""
        counts = self.counts()
        reasons = ", ".join(f"{name[7:]} {count}" for name, count in counts.items() if name.startswith("reject_"))
        examples = [f"{row['source_uri']}: {row['reason']}: {row['detail']}" for row in self.rejects[:_EXAMPLES]]
        return (
            f"all {counts['sources']} sources of {origin} are rejected ({reasons}); expected at least one usable "
            f"video. The first ones:\n  {chr(10).join(examples)}"
        )
