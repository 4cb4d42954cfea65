"""Build the world on disk: real H.264 + AAC files, planted defects, and the truth about every one of them."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config.tree import SynthConfig
from ..data.records import TRUTH, write_table
from ..media.encode import write_video
from ..stages.files import write_text
from ..stages.progress import track
from .copies import write_near_copy
from .events import NO_EVENTS, Events, draw_periodic_events, is_offset_identifiable
from .plan import COPIES, UNSEEN_STREAM, Item, plan_world, world_classes
from .scene import CATALOGUE, Scene, draw_scene

LICENCE = "CC0-1.0"
_TOO_SHORT_SEC = 1.0
_KEPT_BYTES_OF_BROKEN = 0.4
_CHUNK = 8

Row = dict[str, Any]


@dataclass(frozen=True)
class _Tracks:
    """Picture and sound of one file, and the events that each of them holds."""

    frames: NDArray[np.uint8]
    waveform: NDArray[np.float32]
    shown: Events
    heard: Events
    """in the clock of the picture: a late sound has them `late_sec` later"""


def build_world(config: SynthConfig, folder: Path) -> None:
    """Write `videos/*.mp4`, `sources.csv` and `truth.parquet` below `folder`; the same config gives the same bytes.

    Licence of everything made here: CC0-1.0. Layout and size follow `SynthConfig`.

    Raises:
        ConfigError: classes that the catalogue does not have.
    """
    plan = list(plan_world(config))
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    by_uri = {item.uri: item for item in plan}
    made = [item for item in plan if item.defect not in COPIES]
    near = [(item, by_uri[item.original]) for item in plan if item.defect == "near_duplicate"]
    # Fresh interpreters: a fork of a process that already runs threads (torch, tracking) can deadlock.
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        written = pool.map(partial(_write, config, folder), made, chunksize=_CHUNK)
        rows = {str(row["source_uri"]): row for row in track(written, "synth", len(made), "file")}
        copies = pool.map(partial(_copy, config, folder), near, chunksize=_CHUNK)
        rows |= {str(row["source_uri"]): row for row in track(copies, "synth copies", len(near), "file")}
    for item in plan:
        if item.defect == "duplicate":
            shutil.copyfile(folder / item.original, folder / item.uri)
            copy = {"source_uri": item.uri, "defect": "duplicate", "original": item.original}
            rows[item.uri] = rows[item.original] | copy
    captions = {uri: str(row.pop("caption")) for uri, row in rows.items()}
    write_table(folder / "truth.parquet", TRUTH, rows.values(), sort_by=["source_uri"])
    _write_sources(folder / "sources.csv", plan, captions)


def unseen_example(config: SynthConfig) -> tuple[NDArray[np.uint8], NDArray[np.float32], int, str]:
    """A picture at rest (size, size, 3), a sound (samples,), its rate and a caption, from outside the world's seeds."""
    rng = np.random.default_rng([config.seed, UNSEEN_STREAM])
    scene = draw_scene(rng, world_classes(config)[0], config.duration_sec)
    at_rest = replace(scene, events=scene.events.shifted(1e6))
    image = at_rest.frames(config.size, config.fps, 1.0 / config.fps)[0]
    return image, scene.sound(rng, config.duration_sec, config.sample_rate), config.sample_rate, scene.caption


def _duration_sec(config: SynthConfig, item: Item) -> float:
    return _TOO_SHORT_SEC if item.defect == "too_short" else config.duration_sec


def _draw(config: SynthConfig, item: Item, rng: np.random.Generator) -> Scene:
    kind = next(kind for kind in CATALOGUE if kind.label == item.label)
    duration_sec = _duration_sec(config, item)
    scene = draw_scene(rng, kind, duration_sec)
    return replace(scene, events=draw_periodic_events(rng, duration_sec)) if item.defect == "periodic" else scene


def _write(config: SynthConfig, folder: Path, item: Item) -> Row:
    rng = np.random.default_rng(item.seed)
    duration_sec = _duration_sec(config, item)
    scene = _draw(config, item, rng)
    clean = _Tracks(
        frames=scene.frames(config.size, config.fps, duration_sec),
        waveform=scene.sound(rng, duration_sec, config.sample_rate, item.late_sec),
        shown=scene.events,
        heard=scene.events,
    )
    tracks = _damage(item.defect, config, rng, clean)
    path = folder / item.uri
    write_video(path, tracks.frames, config.fps, tracks.waveform, config.sample_rate)
    if item.defect == "broken":
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * _KEPT_BYTES_OF_BROKEN)])
    return _truth(item, scene.caption, tracks.shown, tracks.heard, duration_sec)


def _copy(config: SynthConfig, folder: Path, pair: tuple[Item, Item]) -> Row:
    item, original = pair
    scene = _draw(config, original, np.random.default_rng(original.seed))
    events, duration_sec = write_near_copy(
        np.random.default_rng(item.seed), item.variant, folder / original.uri, folder / item.uri, scene.events
    )
    return _truth(item, scene.caption, events, events, duration_sec)


def _truth(item: Item, caption: str, shown: Events, heard: Events, duration_sec: float) -> Row:
    inside = shown.between(0.0, duration_sec).times_sec
    # Of a broken file nothing can be seen or heard.
    readable = item.defect != "broken"
    return {
        "source_uri": item.uri,
        "label": item.label,
        "defect": item.defect,
        "audio_shift_sec": item.late_sec,
        "event_times_sec": json.dumps([round(float(t), 4) for t in inside]),
        "caption": caption,
        "original": item.original,
        "offset_identifiable": readable and is_offset_identifiable(shown, heard, item.late_sec, duration_sec),
    }


def _damage(defect: str, config: SynthConfig, rng: np.random.Generator, clean: _Tracks) -> _Tracks:
    """Plant what concerns picture or sound; the other defects concern the file or the clock."""
    if defect == "silent":
        return replace(clean, waveform=np.zeros_like(clean.waveform), heard=NO_EVENTS)
    if defect == "still":
        return replace(clean, frames=np.repeat(clean.frames[:1], len(clean.frames), axis=0), shown=NO_EVENTS)
    if defect not in ("cut", "swapped"):
        return clean
    kinds = world_classes(config)
    # Of any class, the same one too; its events are drawn anew, so nothing but chance makes them agree.
    other = draw_scene(rng, kinds[int(rng.integers(len(kinds)))], config.duration_sec)
    if defect == "swapped":
        return replace(clean, waveform=other.sound(rng, config.duration_sec, config.sample_rate), heard=other.events)
    second = other.frames(config.size, config.fps, config.duration_sec)
    at = int(len(clean.frames) * rng.uniform(0.3, 0.7))
    cut_sec = at / config.fps
    before = clean.shown.between(-np.inf, cut_sec)
    return replace(
        clean,
        frames=np.concatenate([clean.frames[:at], second[at:]]),
        shown=before.followed_by(other.events.between(cut_sec, np.inf)),
    )


def _write_sources(path: Path, plan: list[Item], captions: Mapping[str, str]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "label", "caption", "licence", "provenance"])
    for item in plan:
        writer.writerow([item.uri, item.label, captions[item.uri], LICENCE, "procedural world"])
    write_text(path, text.getvalue())
