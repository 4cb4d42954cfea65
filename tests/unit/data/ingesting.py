"""One run of the ingest stage on a small configuration, for the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from soundstage.config import SoundstageConfig, stage_slice
from soundstage.config.slices import IngestSlice
from soundstage.data.ingest import run
from soundstage.data.normalised import store_source
from soundstage.data.records import CLIPS, REJECTS, read_table
from soundstage.media.decode import DecodedClip, decode_clip
from soundstage.stages import NullTracker, Outcome, Work, Workspace


def ingest_slice(source: Path | str, **settings: object) -> IngestSlice:
    """What the stage reads of a small configuration."""
    tree = SoundstageConfig.model_validate(
        {
            "ingest": {"source": str(source), "short_side": 48, "min_duration_sec": 1.0, **settings},
            "synth": {"clips": 3, "classes": 2, "duration_sec": 2.0, "size": 32, "fps": 12, "defects_each": 1},
        }
    )
    found = stage_slice("ingest", tree)
    assert isinstance(found, IngestSlice)
    return found


class Encoded(NullTracker):
    """Remembers how many clips a run encoded."""

    count = -1.0

    def log_metrics(self, metrics: Any, step: int = 0) -> None:
        self.count = metrics["clips_encoded"]


class Ingested:
    """One run of the stage and what it wrote."""

    def __init__(self, source: Path | str, root: Path, worker: Any = store_source, **settings: object) -> None:
        self.workspace = Workspace.open(root / "workspace")
        self.out = root / f"out{len(list(root.glob('out*')))}"
        self.out.mkdir(parents=True)
        tracker = Encoded()
        work = Work(self.workspace, self.out, root, tracker)
        self.outcome: Outcome = run(ingest_slice(source, **settings), {}, work, worker=worker)
        self.counts = self.outcome.counts
        self.encoded = tracker.count
        self.clips = read_table(self.out / "clips.parquet", CLIPS)
        self.rejects = read_table(self.out / "rejects.parquet", REJECTS)

    def reasons(self) -> dict[str, str]:
        return {row["source_uri"]: row["reason"] for row in self.rejects}

    def clip(self, uri: str) -> dict[str, Any]:
        (row,) = (row for row in self.clips if row["source_uri"] == uri)
        return row

    def decoded(self, row: dict[str, Any]) -> DecodedClip:
        return decode_clip(self.workspace.resolve(row["media_uri"]))

    def files(self) -> dict[str, bytes]:
        """Bytes of what the run wrote."""
        return {path.name: path.read_bytes() for path in sorted(self.out.iterdir())}
