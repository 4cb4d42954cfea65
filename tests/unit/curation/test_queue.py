import math
from fractions import Fraction

import pytest

from soundstage.config.tree import SelectConfig
from soundstage.curation.queue import random_order, review_queue, uncertainty
from tests.unit.curation.records import clip_id, clip_row, signals_row

WINDOW = Fraction(2)


def _order(clips: list[dict], signals: list[dict]) -> list[str]:  # type: ignore[type-arg]
    return [c["clip_id"] for c in review_queue(clips, {s["clip_id"]: s for s in signals}, SelectConfig(), WINDOW)]


def test_uncertain_clips_come_first() -> None:
    correlations = [0.9, 0.26, 0.5, -0.2]
    signals = [signals_row(n, av_correlation=r) for n, r in enumerate(correlations)]
    assert _order([clip_row(n) for n in range(4)], signals) == [clip_id(n) for n in (1, 2, 3, 0)]


def test_a_class_already_queued_waits_for_the_others() -> None:
    clips = [clip_row(n, label="many" if n < 6 else "few") for n in range(8)]
    signals = [signals_row(n, av_correlation=0.25 if n < 6 else 0.4) for n in range(8)]
    order = _order(clips, signals)
    assert clip_id(6) in order[:3]
    assert clip_id(7) in order[:4]
    assert sorted(order) == sorted(c["clip_id"] for c in clips)


def test_clips_that_are_dropped_anyway_are_not_shown() -> None:
    clips = [clip_row(0), clip_row(1), clip_row(2, duration_us=1_000_000)]
    signals = [signals_row(0, cuts=2), signals_row(1), signals_row(2)]
    assert _order(clips, signals) == [clip_id(1)]


def test_an_unmeasured_clip_is_as_uncertain_as_can_be() -> None:
    unmeasured = signals_row(0, av_correlation=None, av_offset_sec=None, av_confidence=None)
    assert _order([clip_row(0), clip_row(1)], [unmeasured, signals_row(1)])[0] == clip_id(0)


def test_a_clip_that_another_stands_for_is_not_shown() -> None:
    clips = [clip_row(0, duplicate_of=clip_id(1)), clip_row(1)]
    assert _order(clips, [signals_row(0), signals_row(1)]) == [clip_id(1)]


def test_the_learned_score_orders_where_it_is_and_the_correlation_elsewhere() -> None:
    odds = [4.0, -0.1, 1.0, -900.0, None]
    signals = [signals_row(n, sync_match=value, av_correlation=0.25 + 0.15 * 2.0) for n, value in enumerate(odds)]
    # Without a learned score the last clip has log odds of 2.
    assert _order([clip_row(n) for n in range(5)], signals) == [clip_id(n) for n in (1, 2, 4, 0, 3)]


@pytest.mark.parametrize("log_odds", [-3.0, 0.0, 0.7, 1e4])
def test_uncertainty_is_four_p_times_one_minus_p(log_odds: float) -> None:
    p = 1 / (1 + math.exp(-log_odds))
    found = uncertainty(signals_row(0, sync_match=log_odds), SelectConfig())
    assert found == pytest.approx(4 * p * (1 - p), abs=1e-12)


def test_a_random_order_holds_the_same_clips_whatever_they_show() -> None:
    clips = [clip_row(n) for n in range(20)]
    signals = {clip_id(n): signals_row(n, cuts=int(n == 3), av_correlation=n / 20) for n in range(20)}
    order = [c["clip_id"] for c in random_order(clips, signals, SelectConfig(), WINDOW)]
    assert order == sorted(clip_id(n) for n in range(20) if n != 3)
    assert sorted(order) == sorted(c["clip_id"] for c in review_queue(clips, signals, SelectConfig(), WINDOW))
