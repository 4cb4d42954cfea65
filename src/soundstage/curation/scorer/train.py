"""Learn from unlabelled clips: a clip's own sound in its own time against other times and other clips.

Some sounds of a noisy pool belong to nothing in the picture. They are few against the many that do, and spread over all
delays, so they cost certainty, not direction.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from ...config.tree import SYNC_WRONG_SEC, ScorerConfig
from ...errors import TrainingError
from ...models.sync.scorer import SyncScorer
from .examples import Batch, Example, draw_batch

_WARMUP_STEPS = 20
_LAST_LR_SHARE = 0.02

log = logging.getLogger(__name__)


def train_scorer(
    examples: Sequence[Example],
    config: ScorerConfig,
    sample_rate: int,
    report: Callable[[int, float], None],
) -> SyncScorer:
    """A scorer trained on `examples`; the same input gives the same weights on one machine and thread count.

    `report` is told (step, loss) after every step.

    Raises:
        TrainingError: a loss is not finite; the step is named.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    # Built on the host, so that the same seed gives the same start everywhere.
    scorer = SyncScorer(config, sample_rate).train()
    with torch.no_grad():
        mels = [scorer.mel(torch.from_numpy(example.waveform)[None])[0] for example in examples]
    scorer.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    optimizer = torch.optim.AdamW(scorer.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _lr_share(step, config.steps))
    for step in range(config.steps):
        loss = contrast(scorer, draw_batch(examples, mels, config, rng), rng)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"sync scorer: the loss of step {step} is {float(loss.detach())}; lower the learning rate"
            )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(scorer.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        report(step + 1, float(loss.detach()))
    return scorer.cpu().eval()


def _lr_share(step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine."""
    warm = min(1.0, (step + 1) / _WARMUP_STEPS)
    return warm * (_LAST_LR_SHARE + (1 - _LAST_LR_SHARE) * 0.5 * (1 + math.cos(math.pi * step / steps)))


def contrast(scorer: SyncScorer, batch: Batch, rng: np.random.Generator) -> torch.Tensor:
    """Sum of three losses over all pairs of a batch's pictures and sounds.

    - which lag: cross-entropy over lags of each clip with itself, the truth spread over the two lags next to it;
    - as placed: logistic loss of the true place against one wrong lag of every pair, own clips and strangers alike;
    - at best: logistic loss of own against strange sounds at the lag that suits each best.
    """
    device = scorer.lag_scale.device
    correlations = scorer.correlations(batch.frames.to(device), batch.mel.to(device))
    count, reach, fps = len(correlations), scorer.reach, scorer.config.fps
    own = torch.arange(count, device=device)
    position = batch.late_sec.to(device) * fps + reach
    truth = _between_lags(position, correlations.shape[-1])
    which = F.cross_entropy(scorer.lag_logits(correlations[own, own]), truth)

    placed = scorer.place_logits(correlations)
    right = (placed[own, own] * truth).sum(-1)
    wrong = placed.gather(2, _wrong_lags(position, scorer, rng)[..., None])[..., 0]
    strange = ~torch.eye(count, dtype=torch.bool, device=device)
    as_placed = F.softplus(-right).mean() + 0.5 * (
        F.softplus(wrong[strange]).mean() + F.softplus(wrong[~strange]).mean()
    )

    best = scorer.match_logits(correlations)
    at_best = F.softplus(-best[~strange]).mean() + F.softplus(best[strange]).mean()
    return which + as_placed + at_best


def _between_lags(position: torch.Tensor, lags: int) -> torch.Tensor:
    """(B,) positions on the axis of lags as (B, lags) weights on the two nearest."""
    position = position.clamp(0, lags - 1)
    left = position.floor().long().clamp(max=lags - 2)
    share = position - left
    weights = torch.zeros(len(position), lags, device=position.device)
    weights.scatter_(1, left[:, None], (1 - share)[:, None])
    return weights.scatter_add(1, left[:, None] + 1, share[:, None])


def _wrong_lags(position: torch.Tensor, scorer: SyncScorer, rng: np.random.Generator) -> torch.Tensor:
    """One lag index for each pair of the batch, at least 0.2 s from the picture's true place: (B, B)."""
    lags = 2 * scorer.reach + 1
    away = max(1, math.ceil(SYNC_WRONG_SEC * scorer.config.fps))
    drawn = rng.random((len(position), len(position)))
    chosen = np.empty(drawn.shape, np.int64)
    for row, place in enumerate(position.tolist()):
        allowed = np.flatnonzero(np.abs(np.arange(lags) - place) >= away)
        chosen[row] = allowed[(drawn[row] * len(allowed)).astype(int)]
    return torch.from_numpy(chosen).to(position.device)
