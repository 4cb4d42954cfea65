"""Cut and resample waveforms."""

from __future__ import annotations

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray


def cut_sound(
    waveform: NDArray[np.float32], sample_rate: int, start_sec: float, duration_sec: float
) -> NDArray[np.float32]:
    """The span of `waveform` (samples,) from `start_sec`, silence where it has none: (round(duration * rate),)."""
    length = round(duration_sec * sample_rate)
    first = round(start_sec * sample_rate)
    piece = np.zeros(length, np.float32)
    begin, end = max(first, 0), min(first + length, len(waveform))
    if begin < end:
        piece[begin - first : end - first] = waveform[begin:end]
    return piece


def resample(waveform: NDArray[np.float32], sample_rate: int, target_rate: int) -> NDArray[np.float32]:
    """`waveform` (samples,) at `target_rate` Hz, by windowed-sinc interpolation."""
    if sample_rate == target_rate:
        return waveform
    resampled = torchaudio.functional.resample(torch.from_numpy(waveform), sample_rate, target_rate)
    return np.asarray(resampled.numpy(), dtype=np.float32)
