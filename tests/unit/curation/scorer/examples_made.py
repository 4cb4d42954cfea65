"""Clips in memory of the procedural world, small enough to train on in a test."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from soundstage.config.tree import ScorerConfig
from soundstage.curation.scorer.examples import Example
from soundstage.models.sync import SyncScorer
from soundstage.synth.scene import CATALOGUE, draw_scene

RATE, FPS, SECONDS = 8000, 12, 3.2


def config(**changes: Any) -> ScorerConfig:
    values: dict[str, Any] = {
        "width": 6,
        "embedding_dim": 16,
        "frame_size": 16,
        "fps": FPS,
        "num_mel_bins": 24,
        "crop_sec": 2.0,
        "batch": 12,
        "steps": 50,
        "learning_rate": 3e-3,
        "threads": 1,
    }
    return ScorerConfig(**(values | changes))


def scenes(seed: int, count: int) -> list[Example]:
    """`count` clean clips of eight classes, in sync."""
    rng = np.random.default_rng(seed)
    examples = []
    for number in range(count):
        kind = CATALOGUE[number % 8]
        scene = draw_scene(rng, kind, SECONDS)
        grey = scene.frames(32, FPS, SECONDS).mean(-1).astype(np.uint8)
        waveform = scene.sound(rng, SECONDS, RATE).astype(np.float32)
        examples.append(Example(f"{seed}-{number}", kind.label, f"group {number}", grey, float(FPS), waveform, RATE))
    return examples


def flash_and_click(at_sec: float, seconds: float = 4.0, fps: int = 24, rate: int = RATE) -> Example:
    """One white frame and one click at the same time, in darkness and silence."""
    frames: NDArray[np.uint8] = np.zeros((round(seconds * fps), 16, 16), np.uint8)
    frames[round(at_sec * fps)] = 255
    waveform = np.zeros(round(seconds * rate), np.float32)
    waveform[round(at_sec * rate)] = 1.0
    return Example("flash", "lamp", "g", frames, float(fps), waveform, rate)


def mels_of(scorer: SyncScorer, examples: list[Example]) -> list[torch.Tensor]:
    with torch.no_grad():
        return [scorer.mel(torch.from_numpy(example.waveform)[None])[0] for example in examples]
