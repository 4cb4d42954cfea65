"""The loss against loops in float64, the laws of its parts, and training that repeats, learns and stops in time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from soundstage.curation.scorer.examples import Batch
from soundstage.curation.scorer.measure import measure_scorer
from soundstage.curation.scorer.train import _between_lags, _lr_share, _wrong_lags, contrast, train_scorer
from soundstage.errors import TrainingError
from soundstage.models.sync import SyncScorer

from .examples_made import FPS, RATE, config, scenes


def silent(_step: int, _loss: float) -> None:
    """Nobody follows."""


def softplus(value: float) -> float:
    return math.log1p(math.exp(-abs(value))) + max(value, 0.0)


def loss_by_hand(scorer: SyncScorer, correlations: Any, late_sec: list[float], wrong: Any) -> float:
    """Pair by pair and lag by lag, as the docstring of `contrast` says it."""
    count, lags = len(correlations), correlations.shape[-1]
    scale = math.exp(scorer.lag_scale.item())
    (place, place_bias), (match, match_bias) = scorer.place.tolist(), scorer.match.tolist()
    which, right, wrong_own, wrong_strange, best_own, best_strange = ([] for _ in range(6))
    for i in range(count):
        position = late_sec[i] * scorer.config.fps + scorer.reach
        truth = [max(0.0, 1 - abs(lag - position)) for lag in range(lags)]
        total = math.log(sum(math.exp(scale * correlations[i, i, lag]) for lag in range(lags)))
        which.append(sum(t * (total - scale * correlations[i, i, lag]) for lag, t in enumerate(truth)))
        placed = [math.exp(place) * correlations[i, i, lag] + place_bias for lag in range(lags)]
        right.append(softplus(-sum(t * p for t, p in zip(truth, placed, strict=True))))
        for j in range(count):
            at = correlations[i, j, wrong[i, j]]
            (wrong_own if i == j else wrong_strange).append(softplus(math.exp(place) * at + place_bias))
            best = math.exp(match) * max(correlations[i, j]) + match_bias
            (best_own if i == j else best_strange).append(softplus(-best if i == j else best))
    means = [float(np.mean(part)) for part in (which, right, wrong_own, wrong_strange, best_own, best_strange)]
    return means[0] + means[1] + 0.5 * (means[2] + means[3]) + means[4] + means[5]


def random_batch(settings: Any, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    frames = 255 * torch.rand(settings.batch, round(settings.crop_sec * settings.fps), 16, 16, generator=generator)
    mel = torch.randn(settings.batch, settings.num_mel_bins, round(settings.crop_sec * 100), generator=generator)
    return Batch(frames, mel, torch.tensor([-0.81, 0.0, 0.104, 0.5, 1.1][: settings.batch]))


def test_the_loss_is_that_of_loops_in_float64() -> None:
    settings = config(batch=5)
    torch.manual_seed(3)
    scorer = SyncScorer(settings, RATE)
    batch = random_batch(settings)
    with torch.no_grad():
        scorer.lag_scale.fill_(1.3)
        found = contrast(scorer, batch, np.random.default_rng(7)).item()
        correlations = scorer.correlations(batch.frames, batch.mel).double().numpy()
    wrong = _wrong_lags(batch.late_sec * settings.fps + scorer.reach, scorer, np.random.default_rng(7)).numpy()
    assert found == pytest.approx(loss_by_hand(scorer, correlations, batch.late_sec.tolist(), wrong), rel=1e-5)


def test_a_perfect_scorer_has_hardly_any_loss_and_a_wrong_one_much() -> None:
    settings = config(batch=5)
    scorer = SyncScorer(settings, RATE)
    batch = random_batch(settings)
    late = (batch.late_sec * FPS).round()
    own = torch.full((5, 5, 2 * scorer.reach + 1), -0.5)
    own[range(5), range(5), late.long() + scorer.reach] = 1.0
    with torch.no_grad():
        scorer.lag_scale.fill_(math.log(30.0))
        scorer.place.copy_(torch.tensor([math.log(30.0), -8.0]))
        scorer.match.copy_(torch.tensor([math.log(30.0), -8.0]))
    exact = Batch(batch.frames, batch.mel, late / FPS)
    losses = []
    for correlations in (own, own.roll(1, 0), own.roll(4, 2)):
        scorer.correlations = lambda _frames, _mel, c=correlations: c  # type: ignore[assignment, misc]
        losses.append(contrast(scorer, exact, np.random.default_rng(0)).item())
    assert losses[0] < 1e-3
    assert min(losses[1:]) > 5


def test_truth_between_lags_sums_to_one_and_lies_at_its_place() -> None:
    position = torch.tensor([0.0, 0.25, 3.0, 6.9, 8.0, 9.5, -2.0])
    weights = _between_lags(position, 9)
    assert weights.sum(1).tolist() == pytest.approx([1.0] * 7)
    assert (weights @ torch.arange(9.0)).tolist() == pytest.approx([0.0, 0.25, 3.0, 6.9, 8.0, 8.0, 0.0])
    assert ((weights > 0).sum(1) <= 2).all()


@pytest.mark.parametrize("fps", [6, 12, 25])
def test_wrong_lags_are_wrong_by_a_fifth_of_a_second_and_cover_the_rest(fps: int) -> None:
    settings = config(fps=fps)
    scorer = SyncScorer(settings, RATE)
    position = torch.linspace(0, 2 * scorer.reach, 7)
    rng = np.random.default_rng(0)
    drawn = torch.stack([_wrong_lags(position, scorer, rng) for _ in range(200)])
    distance_sec = (drawn - position[None, :, None]).abs() / fps
    assert float(distance_sec.min()) >= 0.2
    for row, place in enumerate(position.tolist()):
        away = math.ceil(0.2 * fps)
        allowed = {lag for lag in range(2 * scorer.reach + 1) if abs(lag - place) >= away}
        assert set(drawn[:, row].flatten().tolist()) == allowed


def test_the_learning_rate_warms_up_and_falls_to_a_fiftieth() -> None:
    shares = [_lr_share(step, 400) for step in range(401)]
    assert shares[0] == pytest.approx(1 / 20, rel=1e-4)
    assert int(np.argmax(shares)) == 19
    assert all(np.diff(shares[19:]) < 0)
    assert shares[200] == pytest.approx(0.02 + 0.98 / 2)
    assert shares[400] == pytest.approx(0.02)


def test_training_repeats_bit_by_bit_and_follows_its_seed() -> None:
    made = scenes(3, 8)
    runs = []
    for seed in (0, 0, 1):
        losses: list[float] = []
        scorer = train_scorer(
            made, config(steps=3, batch=4, seed=seed), RATE, lambda _step, loss, told=losses: told.append(loss)
        )
        runs.append((losses, scorer.state_dict()))
    assert runs[0][0] == runs[1][0] != runs[2][0]
    assert len(runs[0][0]) == 3
    assert all(torch.equal(runs[0][1][name], runs[1][1][name]) for name in runs[0][1])


def test_a_short_training_tells_true_from_shifted_and_swapped_sound_of_other_clips() -> None:
    settings, unseen = config(), scenes(2, 12)
    torch.manual_seed(settings.seed)
    before = measure_scorer(SyncScorer(settings, RATE).eval(), unseen, seed=0)
    after = measure_scorer(train_scorer(scenes(1, 40), settings, RATE, silent), unseen, seed=0)
    assert before["auc_shifted_0.2"] < 0.65
    assert before["offset_within_80_ms"] < 0.4
    # At 40 clips and 50 steps; two seconds of sound at 12 frames a second.
    assert after["auc_shifted_0.2"] > 0.9
    assert after["auc_shifted_0.4"] > 0.9
    assert after["auc_swapped"] > 0.85
    assert after["offset_within_80_ms"] > 0.7


def test_a_loss_that_is_not_finite_stops_before_the_step_and_names_it() -> None:
    told: list[int] = []
    with pytest.raises(TrainingError, match=r"the loss of step \d+ is (nan|inf)"):
        train_scorer(
            scenes(3, 4),
            config(steps=30, batch=4, learning_rate=1e30),
            RATE,
            lambda step, loss: told.append(step) if math.isfinite(loss) else pytest.fail("told of a loss that is none"),
        )
    assert told == list(range(1, len(told) + 1))
    assert len(told) < 30
