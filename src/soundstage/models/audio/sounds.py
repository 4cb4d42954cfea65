"""What every network needs: sounds as rows at the rate that it was trained at, and features in the sounds' shape."""

from __future__ import annotations

import torch
import torchaudio

# torchaudio's default kernel: zero crossings of the sinc on either side, and where it starts to fall.
_WIDTH, _ROLLOFF = 6, 0.99


def rows_at_rate(waveform: torch.Tensor, found: int, wanted: int) -> torch.Tensor:
    """(..., samples) at `found` Hz as (N, samples) float32 at `wanted` Hz; the first sample keeps its time."""
    rows = torch.atleast_2d(waveform.float()).flatten(0, -2)
    if found == wanted or not rows.shape[-1]:
        return rows
    return torchaudio.functional.resample(rows, found, wanted, lowpass_filter_width=_WIDTH, rolloff=_ROLLOFF)


def reach_sec(found: int, wanted: int) -> float:
    """How far to either side a resampled value hears."""
    if found == wanted:
        return 0.0
    # The windowed sinc ends after `_WIDTH` zero crossings of the lower rate; its taps are rounded up to whole samples.
    return _WIDTH / (min(found, wanted) * _ROLLOFF) + 1 / found


def shaped_as(waveform: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """(N, T, D) features of the rows as (..., T, D)."""
    return features.unflatten(0, waveform.shape[:-1]) if waveform.ndim > 1 else features[0]
