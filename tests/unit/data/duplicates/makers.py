"""Fingerprints made up word by word, and clips of the procedural world with copies that went through real codecs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from soundstage.data.duplicates.fingerprint import Fingerprint, fingerprint
from soundstage.data.duplicates.picture import MOTION_HZ, PICTURE_HZ
from soundstage.data.duplicates.sound import SOUND_HZ
from soundstage.media.decode import decode_clip
from soundstage.media.encode import write_video
from soundstage.media.sound import resample
from soundstage.synth.scene import CATALOGUE, draw_scene

FPS, RATE, SECONDS = 24, 16000, 4.0
ALL_SURE = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


def random_print(rng: np.random.Generator, seconds: float = 4.0) -> Fingerprint:
    """Random sound, one look throughout, and bursts of motion at irregular times."""
    sound = rng.integers(1, 1 << 32, round(seconds * SOUND_HZ), dtype=np.uint32)
    picture = np.full(round(seconds * PICTURE_HZ), rng.integers(0, 1 << 63, dtype=np.uint64))
    motion = rng.integers(0, 4, round(seconds * MOTION_HZ), dtype=np.uint8)
    at = rng.uniform(0.0, 0.4)
    while at < seconds:
        motion[int(at * MOTION_HZ) : int(at * MOTION_HZ) + 2] = rng.integers(30, 40)
        at += 0.3 + rng.exponential(0.2)
    return Fingerprint(sound, picture, np.full_like(picture, ALL_SURE), motion)


def cut(print_: Fingerprint, start_sec: float, seconds: float) -> Fingerprint:
    """The part of a fingerprint from `start_sec` on."""

    def part(values: NDArray[Any], rate: int) -> NDArray[Any]:
        first = round(start_sec * rate)
        return values[first : first + round(seconds * rate)]

    return Fingerprint(
        part(print_.sound, SOUND_HZ),
        part(print_.picture, PICTURE_HZ),
        part(print_.picture_sure, PICTURE_HZ),
        part(print_.motion, MOTION_HZ),
    )


def worn(rng: np.random.Generator, print_: Fingerprint, share: float) -> Fingerprint:
    """The fingerprint with that share of its sound bits turned, and half as many of its picture bits."""
    turned = rng.random((len(print_.sound), 32)) < share
    sound = print_.sound ^ np.packbits(turned, axis=1, bitorder="little").view("<u4")[:, 0]
    turned = rng.random((len(print_.picture), 64)) < share / 2
    picture = print_.picture ^ np.packbits(turned, axis=1, bitorder="little").view("<u8")[:, 0]
    return replace(print_, sound=np.maximum(sound, 1), picture=picture)


def silenced(print_: Fingerprint) -> Fingerprint:
    """The fingerprint without sound."""
    return replace(print_, sound=np.zeros_like(print_.sound))


@dataclass(frozen=True)
class WorldClip:
    """A clip in memory, as ingestion has it."""

    frames: NDArray[np.uint8]
    waveform: NDArray[np.float32]

    def fingerprint(self) -> Fingerprint:
        """Its fingerprint."""
        return fingerprint(self.frames, FPS, self.waveform, RATE)


def world_clip(seed: int, index: int, size: int = 64) -> WorldClip:
    """A clean clip of one of the first eight classes, in turn."""
    rng = np.random.default_rng([seed, index])
    scene = draw_scene(rng, CATALOGUE[index % 8], SECONDS)
    return WorldClip(scene.frames(size, FPS, SECONDS), scene.sound(rng, SECONDS, RATE))


def coded_copy(clip: WorldClip, path: Path, rng: np.random.Generator) -> Fingerprint:
    """Fingerprint of a copy: half to all of the length, other size, colours and level, strongly compressed."""
    total = len(clip.frames)
    kept = total if rng.random() < 0.3 else round(total * rng.uniform(0.55, 1.0))
    first = int(rng.integers(0, total - kept + 1))
    size = int(rng.choice([48, 64, 96]))
    brightness, contrast, colour = rng.uniform(0.88, 1.12, 3)
    frames = []
    for picture in clip.frames[first : first + kept]:
        image = Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC)
        image = ImageEnhance.Contrast(ImageEnhance.Brightness(image).enhance(brightness)).enhance(contrast)
        frames.append(np.asarray(ImageEnhance.Color(image).enhance(colour)))
    start = first * RATE // FPS
    wave = clip.waveform[start : start + kept * RATE // FPS] * np.float32(10 ** (rng.uniform(-8, 0) / 20))
    rate = int(rng.choice([22050, 44100]))
    write_video(path, np.stack(frames), FPS, resample(wave, RATE, rate), rate, crf=int(rng.integers(28, 39)))
    seen = decode_clip(path)
    return fingerprint(seen.frames, float(seen.fps), resample(seen.waveform, seen.sample_rate, RATE), RATE)
