"""The report's fourth part: generated beside true video, with what was heard and how well the motion follows it."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..curation.signals.sound import onset_envelope
from ..media.decode import decode_clip
from ..stages import StageRecord, Workspace
from .metrics.motion import motion_energy
from .protocol import ARMS
from .report_numbers import finite

TRUTH, GENERATED = "truth", "true"
INDEX = "samples/index.json"
# The order in which samples.write_samples stacks a strip; its index is sorted by name.
_ORDER = (TRUTH, *(arm.name for arm in ARMS))


@dataclass(frozen=True)
class Overlay:
    """Motion of the truth and of a generated video, over the sound that both belong to."""

    motion_sec: NDArray[np.float64]
    """(frames - 1,) middle between the two frames compared"""
    truth: NDArray[np.float64]
    """(frames - 1,) motion energy, 0..1"""
    generated: NDArray[np.float64]
    onset_sec: NDArray[np.float64]
    onset: NDArray[np.float64]
    """onset strength of the sound, the largest being 1"""
    duration_sec: float


@dataclass(frozen=True)
class SampleVideo:
    """One video of a row."""

    condition: str
    uri: str
    """data URI"""
    score: float | None
    has_sound: bool


@dataclass(frozen=True)
class SampleRow:
    """One clip: its true video and what was generated for it."""

    clip_id: str
    label: str
    caption: str
    videos: list[SampleVideo]
    strip: str
    """data URI; one line of frames for each of `videos`, in their order"""
    strip_width: int
    """pixels at which to show it"""
    overlay: Overlay | None


def read_samples(workspace: Workspace, evaluate: StageRecord) -> list[SampleRow]:
    """The samples that the evaluation kept, in its order; none when no test clip was there."""
    if INDEX not in evaluate.outputs:
        return []
    index = workspace.output(evaluate, INDEX)
    return [_row(index.parent, entry) for entry in json.loads(index.read_text())]


def _row(folder: Path, entry: Mapping[str, Any]) -> SampleRow:
    paths = {name: folder / entry["videos"][name] for name in _in_order(entry["videos"])}
    videos = [
        SampleVideo(name, data_uri(path, "video/mp4"), finite(entry["scores"].get(name)), _has_sound(path))
        for name, path in paths.items()
    ]
    overlay = measure_overlay(paths[TRUTH], paths[GENERATED]) if TRUTH in paths and GENERATED in paths else None
    strip, strip_width = packed_picture(folder / entry["strip"])
    return SampleRow(entry["clip_id"], entry["label"], entry["caption"], videos, strip, strip_width, overlay)


def _in_order(videos: Mapping[str, str]) -> list[str]:
    return [name for name in _ORDER if name in videos] + sorted(set(videos) - set(_ORDER))


def measure_overlay(truth: Path, generated: Path) -> Overlay:
    """Motion energy of both files as shown, so after compression, and the onset strength of the true file's sound.

    Raises:
        DataError: a file cannot be decoded.
    """
    true_clip, made = decode_clip(truth), decode_clip(generated)
    count = min(len(true_clip.frames), len(made.frames))
    envelope = onset_envelope(true_clip.waveform, true_clip.sample_rate)
    duration = count / float(true_clip.fps)
    inside = (envelope.times_sec >= 0) & (envelope.times_sec <= duration)
    values = envelope.values[inside]
    return Overlay(
        motion_sec=np.asarray((np.arange(count - 1) + 0.5) / float(true_clip.fps), dtype=np.float64),
        truth=motion_energy(true_clip.frames[:count]),
        generated=motion_energy(made.frames[:count]),
        onset_sec=envelope.times_sec[inside],
        onset=values / max(float(values.max(initial=0.0)), 1e-12),
        duration_sec=duration,
    )


def data_uri(path: Path, media_type: str) -> str:
    """The file's bytes as a data URI."""
    return _encoded(path.read_bytes(), media_type)


def _encoded(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def packed_picture(path: Path) -> tuple[str, int]:
    """The PNG as a data URI, and the width at which to show it.

    A picture whose pixels are all blocks of 2 x 2 is halved until they are not: enlarged again without smoothing, as
    the page does, it is the same picture in a fraction of the bytes.
    """
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    width = pixels.shape[1]
    while np.array_equal((half := pixels[::2, ::2]).repeat(2, axis=0).repeat(2, axis=1), pixels):
        pixels = half
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, "PNG", optimize=True)
    return _encoded(packed.getvalue(), "image/png"), width


def _has_sound(path: Path) -> bool:
    with av.open(str(path)) as container:
        return bool(container.streams.audio)
