"""What a scorer learns from: its split's clips in memory, small and grey, and random windows of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...config.tree import SYNC_MIN_OVERLAP_SEC, ScorerConfig
from ...errors import DataError
from ...media.decode import decode_clip
from ...media.sound import cut_sound
from ...models.sync.scorer import hop_sec, squares
from ...stages.files import sha256_text
from ...stages.workspace import Workspace

Row = Mapping[str, Any]
# So much of a clip beyond the crop is needed to shift one against the other at all.
MIN_SLACK_SEC = 0.3
_DECODERS = 2
_NOISE_GREY, _GAIN, _LIFT_GREY = 4.0, (0.6, 1.4), 20.0
_INVERTED_SHARE = 0.3
_BAND_TILT, _MEL_NOISE = 0.5, 0.1


@dataclass(frozen=True)
class Example:
    """One clip in memory."""

    clip_id: str
    label: str
    group: str
    frames: NDArray[np.uint8]
    """(T, size, size) grey"""
    fps: float
    waveform: NDArray[np.float32]
    """(samples,) as long as the frames"""
    sample_rate: int


@dataclass(frozen=True)
class Roles:
    """Which clips a scorer is trained on and which measure it; they share no group."""

    train: list[Row]
    held_out: list[Row]
    held_out_classes: list[Row]


def assign_roles(clips: Sequence[Row], split: str, config: ScorerConfig) -> Roles:
    """Divide the clips of `split` by class and, by a hash of their group, into those to learn from and to measure with.

    Near-duplicates add nothing, and clips too short for a shifted crop cannot serve; both are left out.
    """
    usable = [
        row
        for row in clips
        if row["split"] == split
        and not row["duplicate_of"]
        and row["duration_us"] / 1e6 >= config.crop_sec + MIN_SLACK_SEC
    ]
    other = [row for row in usable if row["label"] in config.held_out_classes]
    own = [row for row in usable if row["label"] not in config.held_out_classes]
    # By the same rule of chance for every group: which groups are held out does not depend on how many there are.
    limit = round(config.held_out_share * 16**8)
    drawn = {row["group"]: int(sha256_text(f"{config.seed} {row['group']}")[:8], 16) < limit for row in own}
    drawn |= {row["group"]: True for row in other}
    train = [row for row in own if not drawn[row["group"]]]
    held_out = [row for row in own if drawn[row["group"]]]
    return Roles(_sampled(train, config), _sampled(held_out, config), _sampled(other, config))


def _sampled(rows: list[Row], config: ScorerConfig) -> list[Row]:
    """At most `max_clips` rows, chosen by a hash that knows the seed and the clip alone."""
    ordered = sorted(rows, key=lambda row: sha256_text(f"{config.seed} {row['clip_id']}"))
    return sorted(ordered[: config.max_clips], key=lambda row: str(row["clip_id"]))


def load_examples(rows: Sequence[Row], workspace: Workspace, config: ScorerConfig) -> Iterator[Example]:
    """Decode clips in the order of `rows`.

    Raises:
        DataError: a clip cannot be decoded, or is not what its record says; it is named.
    """
    with ThreadPoolExecutor(_DECODERS) as pool:
        yield from pool.map(partial(_load, workspace, config), rows)


def _load(workspace: Workspace, config: ScorerConfig, row: Row) -> Example:
    path = workspace.resolve(row["media_uri"])
    try:
        clip = decode_clip(path, config.frame_size, "gray")
    except DataError as error:
        raise DataError(f"clip {row['clip_id']} cannot be learned from: {error}") from error
    found, stated = (len(clip.frames), clip.sample_rate), (row["num_frames"], row["sample_rate"])
    if found != stated:
        raise DataError(
            f"clip {row['clip_id']}: {path} holds {found[0]} frames and sound at {found[1]} Hz, its record says "
            f"{stated[0]} and {stated[1]} Hz; the media file was changed: delete it and rerun `soundstage ingest`"
        )
    fps = float(clip.fps)
    waveform = cut_sound(clip.waveform, clip.sample_rate, 0.0, len(clip.frames) / fps)
    frames = squares(clip.frames, config.frame_size)
    return Example(row["clip_id"], row["label"], row["group"], frames, fps, waveform, clip.sample_rate)


@dataclass(frozen=True)
class Batch:
    """Windows of as many clips: pictures and sounds that start at different times of their clip."""

    frames: torch.Tensor
    """(B, T, H, W) grey, 0..255"""
    mel: torch.Tensor
    """(B, bands, N)"""
    late_sec: torch.Tensor
    """(B,): how late the sound is against the picture in each pair of windows"""


def draw_batch(
    examples: Sequence[Example], mels: Sequence[torch.Tensor], config: ScorerConfig, rng: np.random.Generator
) -> Batch:
    """Random windows of random clips, changed in light, mirror, tone and noise.

    Picture and sound windows start apart by a random delay, so that neither the edge of a window nor its middle tells
    where the two meet.
    """
    chosen = rng.choice(len(examples), size=config.batch, replace=len(examples) < config.batch)
    count = round(config.crop_sec * config.fps)
    frames, mel, late = [], [], []
    for index in chosen:
        example = examples[int(index)]
        picture_sec, sound_sec = _starts(example, config, rng)
        hop = hop_sec(example.sample_rate)
        first, mel_count = round(sound_sec / hop), round(config.crop_sec / hop)
        times = picture_sec + np.arange(count) / config.fps
        picked = example.frames[np.minimum(np.round(times * example.fps).astype(int), len(example.frames) - 1)]
        frames.append(_relit(picked, rng))
        mel.append(_retuned(mels[int(index)][:, first : first + mel_count], mel_count, rng))
        late.append(picture_sec - first * hop)
    return Batch(torch.stack(frames), torch.stack(mel), torch.tensor(late, dtype=torch.float32))


def _starts(example: Example, config: ScorerConfig, rng: np.random.Generator) -> tuple[float, float]:
    """Start of the picture's and of the sound's window, apart by what the scorer can measure in such a window."""
    slack = len(example.frames) / example.fps - config.crop_sec
    pairs = round(config.crop_sec * config.fps) - 1
    lags = math.floor(config.max_offset_sec * config.fps + 1e-9)
    measured_sec = min(lags, pairs - math.ceil(SYNC_MIN_OVERLAP_SEC * config.fps)) / config.fps
    # Both starts are rounded afterwards, to a frame and to a mel frame.
    rounding_sec = (1 / example.fps + hop_sec(example.sample_rate)) / 2
    reach = max(0.0, min(slack, measured_sec - rounding_sec))
    delay = rng.uniform(-reach, reach)
    earliest = rng.uniform(0.0, slack - abs(delay))
    # On a frame of the source, so that the delay is known exactly.
    picture_sec = round((earliest + max(delay, 0.0)) * example.fps) / example.fps
    return picture_sec, earliest + max(-delay, 0.0)


def _relit(frames: NDArray[np.uint8], rng: np.random.Generator) -> torch.Tensor:
    picture = torch.from_numpy(np.ascontiguousarray(frames[..., ::-1] if rng.random() < 0.5 else frames)).float()
    if rng.random() < _INVERTED_SHARE:
        picture = 255 - picture
    noise = torch.from_numpy(rng.standard_normal(picture.shape, dtype=np.float32)) * float(rng.uniform(0, _NOISE_GREY))
    return picture * float(rng.uniform(*_GAIN)) + float(rng.normal(scale=_LIFT_GREY)) + noise


def _retuned(mel: torch.Tensor, length: int, rng: np.random.Generator) -> torch.Tensor:
    if mel.shape[-1] < length:
        mel = torch.nn.functional.pad(mel, (0, length - mel.shape[-1]), mode="replicate")
    tilt = torch.from_numpy(rng.standard_normal((len(mel), 1), dtype=np.float32)) * _BAND_TILT
    noise = torch.from_numpy(rng.standard_normal(mel.shape, dtype=np.float32)) * _MEL_NOISE
    return mel + tilt + noise
