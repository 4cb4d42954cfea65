"""From two sequences of vectors to a score for every delay, and from scores to what is said about a clip."""

from __future__ import annotations

from dataclasses import dataclass

import torch

# Under a hundredth of what moving, sounding clips give: sequences that do not vary correlate with nothing.
_NORM_FLOOR = 1e-3
CONFIDENT_SEC = 0.1


@dataclass(frozen=True)
class SyncEstimate:
    """What a scorer says about one clip; the names are those of the signals record."""

    sync_score: float
    """log odds that the sound belongs to the picture as it is placed"""
    sync_match: float
    """log odds that it does so at the best offset"""
    sync_offset_sec: float
    """the best offset; positive: sound is late against the picture"""
    sync_confidence: float
    """probability that the offset lies within 0.1 s (at least one step) of the best one, 0..1"""
    synchronisability: float
    """probability that there is one offset at which they belong together, 0..1"""


def lag_correlation(video: torch.Tensor, audio: torch.Tensor, reach: int, min_overlap: int) -> torch.Tensor:
    """Correlation of every video with every audio at every lag: (B, D, T) and (C, D, T) to (B, C, 2 reach + 1).

    At lag l the video's vector of step t meets the audio's of step t + l: the sound is l steps late. Over the steps
    that both cover, each channel is brought to mean zero, and the inner product is divided by both norms (Lewis, "Fast
    Normalized Cross-Correlation", 1995, over D channels at once): values are in -1..1, whatever the length. A lag with
    fewer than `min_overlap` common steps is -1.
    """
    steps = video.shape[-1]
    columns = []
    for lag in range(-reach, reach + 1):
        if steps - abs(lag) < max(2, min_overlap):
            columns.append(video.new_full((len(video), len(audio)), -1.0))
            continue
        v = _centred(video[..., max(0, -lag) : steps - max(0, lag)])
        a = _centred(audio[..., max(0, lag) : steps - max(0, -lag)])
        norms = v.norm(dim=1)[:, None] * a.norm(dim=1)[None]
        columns.append(v @ a.T / (norms + _NORM_FLOOR))
    return torch.stack(columns, dim=-1)


def _centred(sequence: torch.Tensor) -> torch.Tensor:
    return (sequence - sequence.mean(-1, keepdim=True)).flatten(1)


def at_steps(vectors: torch.Tensor, spacing_sec: float, times_sec: torch.Tensor) -> torch.Tensor:
    """(B, D, M) vectors that lie `spacing_sec` apart from time 0 on, interpolated at `times_sec` (T,): (B, D, T)."""
    position = (times_sec / spacing_sec).clamp(0, vectors.shape[-1] - 1)
    left = position.floor().long().clamp(max=max(vectors.shape[-1] - 2, 0))
    right = (left + 1).clamp(max=vectors.shape[-1] - 1)
    share = (position - left).to(vectors.dtype)
    return vectors[..., left] * (1 - share) + vectors[..., right] * share


def peak_offset(scores: torch.Tensor, reach: int, fps: float) -> tuple[int, float]:
    """Index of the best lag of (2 reach + 1,) scores, and its offset in seconds, placed between lags by a parabola."""
    best = int(scores.argmax())
    shift = 0.0
    if 0 < best < len(scores) - 1:
        left, middle, right = (float(scores[best + step]) for step in (-1, 0, 1))
        # A neighbour of -1 was never measured; a flat top has no vertex.
        bend = left - 2 * middle + right
        if min(left, right) > -1 and bend < 0:
            shift = 0.5 * (left - right) / bend
    return best, (best + shift - reach) / fps
