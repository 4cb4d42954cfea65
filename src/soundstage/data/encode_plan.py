"""What goes into which shard, told from the records before anything is decoded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..config.slices import EncodeSlice
from ..config.tree import WindowConfig
from .buckets import best_bucket, bucket_windows
from .windows import plan_windows


@dataclass(frozen=True)
class PlannedSample:
    """A window of a clip, and what its encoding needs to know."""

    key: str
    clip_id: str
    use: str
    caption: str
    weight: float
    window_start_us: int
    flip: bool
    bucket: str
    media_uri: str
    audio_shift_sec: float

    def about(self) -> dict[str, Any]:
        """What the shards tell of it: the columns of `SHARD_SAMPLES` that are known before it is written."""
        told = asdict(self)
        del told["media_uri"], told["audio_shift_sec"]
        return told


@dataclass(frozen=True)
class PlannedShard:
    """The samples of one tar, all of one bucket, those of a clip after each other."""

    name: str
    samples: tuple[PlannedSample, ...]

    def to_json(self) -> str:
        """As text: equal plans give equal texts."""
        return json.dumps({"name": self.name, "samples": [asdict(each) for each in self.samples]}, sort_keys=True)

    @staticmethod
    def load(path: Path) -> PlannedShard:
        """Read what `to_json` wrote."""
        told = json.loads(path.read_text())
        return PlannedShard(told["name"], tuple(PlannedSample(**each) for each in told["samples"]))


def plan_shards(chosen: Iterable[Mapping[str, Any]], config: EncodeSlice) -> list[PlannedShard]:
    """The shards of the chosen clips: a pure function of selection and configuration.

    chosen: rows of the selection, each with its clip's row as `clip`. Buckets come in their order, the model's own
    first; in a bucket, clips by id, and the windows of a clip as they are drawn. Each clip is in one bucket.
    """
    windows = bucket_windows(config.encode, config.window)
    samples: dict[str, list[PlannedSample]] = {name: [] for name in windows}
    for row in sorted(chosen, key=lambda row: str(row["clip_id"])):
        name = best_bucket(row["clip"], row["audio_shift_sec"], row["use"], windows)
        samples[name] += _samples(row, config, name, windows[name])
    size = config.encode.samples_per_shard
    batches = [each[first : first + size] for each in samples.values() for first in range(0, len(each), size)]
    return [PlannedShard(f"{number:06d}.tar", tuple(batch)) for number, batch in enumerate(batches)]


def _samples(row: Mapping[str, Any], config: EncodeSlice, bucket: str, window: WindowConfig) -> Iterator[PlannedSample]:
    clip, shift = row["clip"], row["audio_shift_sec"]
    # A clip barely longer than a window has few distinct starts: what is drawn twice is one sample.
    distinct = {planned.key: planned for planned in plan_windows(clip, shift, config.encode, window)}
    for planned in distinct.values():
        yield PlannedSample(
            key=planned.key,
            clip_id=row["clip_id"],
            use=row["use"],
            caption=clip["caption"],
            weight=row["weight"],
            window_start_us=planned.start_us,
            flip=planned.flip,
            bucket=bucket,
            media_uri=clip["media_uri"],
            audio_shift_sec=shift,
        )
