"""Build the world on disk: real H.264 + AAC files, planted defects, and the truth about every one of them."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..config.tree import SynthConfig
from ..data.records import TRUTH, write_table
from ..media.encode import write_video
from ..stages.files import write_text
from ..stages.progress import track
from .scene import CATALOGUE, Scene, draw_scene

LICENCE = "CC0-1.0"
DEFECTS = ("silent", "still", "cut", "duplicate", "shifted", "swapped", "too_short", "broken")
_TOO_SHORT_SEC = 1.0
_KEPT_BYTES_OF_BROKEN = 0.4


@dataclass(frozen=True)
class Item:
    """One file of the world, as the plan states it."""

    uri: str
    label: str
    defect: str
    seed: tuple[int, ...]
    late_sec: float
    original: str
    """for a duplicate: the file it copies"""


def build_world(config: SynthConfig, folder: Path) -> None:
    """Write `videos/*.mp4`, `sources.csv` and `truth.parquet` below `folder`; the same config gives the same bytes.

    Licence of everything made here: CC0-1.0. Layout and size follow `SynthConfig`.
    """
    plan = list(plan_world(config))
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    originals = [item for item in plan if item.defect != "duplicate"]
    with ProcessPoolExecutor(2) as pool:
        results = pool.map(partial(_write, config, folder), originals, chunksize=8)
        rows = {str(row["source_uri"]): row for row in track(results, "synth", len(originals), "file")}
    for item in plan:
        if item.defect == "duplicate":
            shutil.copyfile(folder / item.original, folder / item.uri)
            copy = {"source_uri": item.uri, "defect": "duplicate", "original": item.original}
            rows[item.uri] = rows[item.original] | copy
    captions = {uri: str(row.pop("caption")) for uri, row in rows.items()}
    write_table(folder / "truth.parquet", TRUTH, rows.values(), sort_by=["source_uri"])
    _write_sources(folder / "sources.csv", plan, captions)


def plan_world(config: SynthConfig) -> Iterator[Item]:
    """All files in the order of their names; names tell neither the defect nor the original of a copy."""
    rng = np.random.default_rng([config.seed, 0])
    kinds = CATALOGUE[: config.classes]
    defects = ["none"] * config.clips + [defect for defect in DEFECTS for _ in range(config.defects_each)]
    order = rng.permutation(len(defects))
    labels = [kinds[index % len(kinds)].label for index in range(len(defects))]
    names = {int(index): f"videos/{position:05d}.mp4" for position, index in enumerate(order)}
    for position, index in enumerate(int(i) for i in order):
        defect, original = defects[index], ""
        label = labels[index]
        if defect == "duplicate":
            source = int(rng.integers(config.clips))
            original, label = names[source], labels[source]
        late = float(rng.choice([-1, 1]) * rng.uniform(0.25, 1.0)) if defect == "shifted" else 0.0
        yield Item(f"videos/{position:05d}.mp4", label, defect, (config.seed, 1, index), late, original)


def unseen_example(config: SynthConfig) -> tuple[NDArray[np.uint8], NDArray[np.float32], int, str]:
    """A picture at rest (size, size, 3), a sound (samples,), its rate and a caption, from outside the world's seeds."""
    rng = np.random.default_rng([config.seed, 2])
    scene = draw_scene(rng, CATALOGUE[0], config.duration_sec)
    at_rest = Scene(scene.kind, scene.colour, scene.look, scene.background, scene.events.shifted(1e6))
    image = at_rest.frames(config.size, config.fps, 1.0 / config.fps)[0]
    return image, scene.sound(rng, config.duration_sec, config.sample_rate), config.sample_rate, scene.caption


def _write(config: SynthConfig, folder: Path, item: Item) -> dict[str, object]:
    rng = np.random.default_rng(item.seed)
    kind = next(kind for kind in CATALOGUE if kind.label == item.label)
    duration = _TOO_SHORT_SEC if item.defect == "too_short" else config.duration_sec
    scene = draw_scene(rng, kind, duration)
    frames = scene.frames(config.size, config.fps, duration)
    waveform = scene.sound(rng, duration, config.sample_rate, item.late_sec)
    frames, waveform, times = _damage(item.defect, config, rng, frames, waveform, scene.events.times_sec)
    path = folder / item.uri
    write_video(path, frames, config.fps, waveform, config.sample_rate)
    if item.defect == "broken":
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * _KEPT_BYTES_OF_BROKEN)])
    shown = [round(float(t), 4) for t in times if 0 <= t < duration]
    return {
        "source_uri": item.uri,
        "label": item.label,
        "defect": item.defect,
        "audio_shift_sec": item.late_sec,
        "event_times_sec": json.dumps(shown),
        "caption": scene.caption,
        "original": "",
        "offset_identifiable": item.defect not in ("silent", "still", "swapped"),
    }


def _damage(
    defect: str,
    config: SynthConfig,
    rng: np.random.Generator,
    frames: NDArray[np.uint8],
    waveform: NDArray[np.float32],
    times: NDArray[np.float64],
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float64]]:
    """Plant what concerns picture or sound; the other defects concern the file or the clock.

    Returns frames, waveform and the times of the events that the picture then shows.
    """
    if defect == "silent":
        return frames, np.zeros_like(waveform), times
    if defect == "still":
        return np.repeat(frames[:1], len(frames), axis=0), waveform, times[:0]
    other = draw_scene(rng, CATALOGUE[int(rng.integers(config.classes))], config.duration_sec)
    if defect == "cut":
        second = other.frames(config.size, config.fps, config.duration_sec)
        at = int(len(frames) * rng.uniform(0.3, 0.7))
        cut_sec, later = at / config.fps, other.events.times_sec
        shown = np.concatenate([times[times < cut_sec], later[later >= cut_sec]])
        return np.concatenate([frames[:at], second[at:]]), waveform, shown
    if defect == "swapped":
        return frames, other.sound(rng, config.duration_sec, config.sample_rate), times
    return frames, waveform, times


def _write_sources(path: Path, plan: list[Item], captions: dict[str, str]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "label", "caption", "licence", "provenance"])
    for item in plan:
        writer.writerow([item.uri, item.label, captions[item.uri], LICENCE, "procedural world"])
    write_text(path, text.getvalue())
