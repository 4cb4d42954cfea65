"""The area under the curve against scipy, sound that is moved and not lost, and figures of a scorer that knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from soundstage.curation.scorer.measure import SHIFTS_SEC, auc, measure_scorer, shifted
from soundstage.models.sync import SyncEstimate

from .examples_made import RATE, config, flash_and_click


@pytest.mark.parametrize("levels", [1, 3, 1000], ids=["all tied", "many ties", "none"])
def test_auc_is_the_mann_whitney_statistic_over_all_pairs(levels: int) -> None:
    rng = np.random.default_rng(levels)
    positives, negatives = (rng.integers(0, levels, n).astype(float) + shift for n, shift in ((17, 0.0), (23, 0.0)))
    expected = mannwhitneyu(positives, negatives).statistic / (17 * 23)
    assert auc(positives, negatives) == pytest.approx(expected)
    assert auc(positives, negatives) + auc(negatives, positives) == pytest.approx(1.0)


def test_auc_takes_clips_that_never_change_as_the_lowest() -> None:
    assert auc([1.0, 2.0], [-np.inf, -np.inf]) == 1.0
    assert auc([-np.inf], [-np.inf, 0.0]) == 0.25


@pytest.mark.parametrize("late", [3, 0, -3, 9, 25, -25])
def test_shifted_sound_keeps_its_length_and_its_samples(late: int) -> None:
    sound = np.arange(1, 11, dtype=np.float32)
    moved = shifted(sound, late / 100, 100)
    assert moved.shape == sound.shape
    expected = [sound[i - late] if 0 <= i - late < 10 else 0.0 for i in range(10)]
    assert moved.tolist() == expected


class Oracle:
    """Finds the flash and the click, and scores by their distance: figures are known beforehand."""

    sample_rate = RATE

    def __init__(self, **changes: Any) -> None:
        self.config = config(**changes)

    def estimate(self, frames: Any, fps: float, waveform: Any) -> SyncEstimate | None:
        if not waveform.any():
            return None
        late = int(np.abs(waveform).argmax()) / self.sample_rate - int(frames.mean((1, 2)).argmax()) / fps
        return SyncEstimate(-abs(late), -abs(late), late, 1.0, 1.0)


def test_a_scorer_that_knows_measures_one_and_no_error() -> None:
    clips = [flash_and_click(at) for at in (1.5, 1.75, 2.0, 2.25, 2.5)]
    found = measure_scorer(Oracle(), clips, seed=0)  # type: ignore[arg-type]
    assert found["clips"] == 5
    assert all(found[f"auc_shifted_{shift:g}"] == 1.0 for shift in SHIFTS_SEC)
    assert found["auc_swapped"] == 1.0
    # Shifts are drawn freely and made in whole samples.
    assert found["offset_error_ms"] == pytest.approx(0.0, abs=0.1)
    assert found["offset_within_80_ms"] == 1.0


def test_a_scorer_that_is_late_by_a_tenth_has_that_error() -> None:
    class Late(Oracle):
        def estimate(self, frames: Any, fps: float, waveform: Any) -> SyncEstimate | None:
            return super().estimate(frames, fps, shifted(waveform, 0.1, RATE))

    found = measure_scorer(Late(), [flash_and_click(1.5), flash_and_click(2.0)], seed=0)  # type: ignore[arg-type]
    assert found["offset_error_ms"] == pytest.approx(100, abs=0.2)
    assert found["offset_within_80_ms"] == 0.0
    assert (
        found["auc_shifted_0.2"] == 0.75
    )  # early by 0.2 s it is as near as in place: half the pairs are won, half tied


def test_shifts_beyond_the_searched_offset_are_not_measured() -> None:
    clips = [flash_and_click(1.5), flash_and_click(2.0)]
    found = measure_scorer(Oracle(max_offset_sec=0.45), clips, seed=0)  # type: ignore[arg-type]
    assert [name for name in found if "shifted" in name] == [f"auc_shifted_{x:g}" for x in (0.1, 0.2, 0.4)]


def test_measurements_repeat_and_need_two_clips() -> None:
    clips = [flash_and_click(at) for at in (1.5, 2.0)]
    assert measure_scorer(Oracle(), clips[:1], seed=0) == {}  # type: ignore[arg-type]
    first, again = (measure_scorer(Oracle(), clips, seed=3) for _ in range(2))  # type: ignore[arg-type]
    assert first == again
