"""How well a scorer tells true from shifted and swapped sound, on clips it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from ...models.sync.scorer import SyncScorer
from .examples import Example

SHIFTS_SEC = (0.1, 0.2, 0.4, 1.0)
OFFSET_TOLERANCE_SEC = 0.08
_LARGEST_TRIED_SEC = 1.0


def auc(positives: Sequence[float], negatives: Sequence[float]) -> float:
    """Probability that a positive's score exceeds a negative's, ties counting half: the area under the ROC curve.

    By ranks (Hanley and McNeil, Radiology 143, 1982).
    """
    ranks = rankdata(np.concatenate([positives, negatives]))
    n, m = len(positives), len(negatives)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


@dataclass(frozen=True)
class _Scored:
    true: float
    shifted: dict[float, list[float]]
    error_sec: float | None


@torch.inference_mode()
def measure_scorer(scorer: SyncScorer, examples: Sequence[Example], seed: int) -> dict[str, float]:
    """`clips`; `auc_shifted_*` for each shift either way and `auc_swapped`, by the score as placed; offset errors.

    The sound is shifted inside its clip and silence fills the end. Offsets are those of one random shift of up to 1 s a
    clip: median absolute error in ms, and the share within 80 ms. Of unlabelled clips some sounds belong to nothing, so
    the figures are lower bounds. Empty without two clips.
    """
    if len(examples) < 2:
        return {}
    rng = np.random.default_rng(seed)
    strangers = np.roll(np.arange(len(examples)), 1)
    scored = [_score(scorer, example, rng) for example in examples]
    swapped = [
        _placed(scorer, one, examples[int(other)].waveform) for one, other in zip(examples, strangers, strict=True)
    ]
    true = [item.true for item in scored]
    result: dict[str, float] = {"clips": float(len(examples))}
    for shift in SHIFTS_SEC:
        if shift <= scorer.config.max_offset_sec:
            result[f"auc_shifted_{shift:g}"] = auc(true, [x for item in scored for x in item.shifted[shift]])
    result["auc_swapped"] = auc(true, swapped)
    errors = np.array([item.error_sec for item in scored if item.error_sec is not None])
    if len(errors):
        result["offset_error_ms"] = float(np.median(np.abs(errors)) * 1000)
        result["offset_within_80_ms"] = float(np.mean(np.abs(errors) <= OFFSET_TOLERANCE_SEC))
    return {name: round(value, 4) for name, value in result.items()}


def _score(scorer: SyncScorer, example: Example, rng: np.random.Generator) -> _Scored:
    largest = min(_LARGEST_TRIED_SEC, scorer.config.max_offset_sec)
    tried = float(rng.choice([-1.0, 1.0]) * rng.uniform(0.2, largest))
    estimate = scorer.estimate(example.frames, example.fps, shifted(example.waveform, tried, scorer.sample_rate))
    return _Scored(
        true=_placed(scorer, example, example.waveform),
        shifted={
            shift: [
                _placed(scorer, example, shifted(example.waveform, sign * shift, scorer.sample_rate))
                for sign in (-1.0, 1.0)
            ]
            for shift in SHIFTS_SEC
        },
        error_sec=None if estimate is None else estimate.sync_offset_sec - tried,
    )


def _placed(scorer: SyncScorer, example: Example, waveform: NDArray[np.float32]) -> float:
    """The score as placed; a clip that never changes scores lowest, as nothing says that it belongs."""
    estimate = scorer.estimate(example.frames, example.fps, waveform)
    return -np.inf if estimate is None else estimate.sync_score


def shifted(waveform: NDArray[np.float32], late_sec: float, sample_rate: int) -> NDArray[np.float32]:
    """The same number of audio samples, `late_sec` later (negative: earlier), silence where nothing is left."""
    move = round(late_sec * sample_rate)
    moved = np.zeros_like(waveform)
    if move >= 0:
        moved[move:] = waveform[: max(0, len(waveform) - move)]
    else:
        moved[:move] = waveform[-move:]
    return moved
