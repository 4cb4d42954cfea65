"""Limits per class and quality, where `select.decide` does not show them."""

import pytest

from soundstage.config.tree import SelectConfig
from soundstage.curation.balance import class_limit, quality
from tests.unit.curation.records import signals_row


@pytest.mark.parametrize(
    ("sizes", "options", "limit"),
    [
        ([5, 2], {}, None),
        ([], {"max_class_ratio": 2.0}, None),
        ([10, 4, 1], {"max_class_ratio": 1.5}, 6),
        ([10, 4, 1], {"max_class_ratio": 1.5, "max_per_class": 5}, 5),
        ([10, 4, 1], {"max_class_ratio": 0.01}, 1),
    ],
)
def test_limit_of_a_class(sizes: list[int], options: dict[str, float], limit: int | None) -> None:
    assert class_limit(sizes, SelectConfig(**options)) == limit


def test_order_of_quality() -> None:
    learned_bad = quality(signals_row(0, sync_score=-9.0, sync_match=5.0), 0.0)
    learned_corrected = quality(signals_row(0, sync_score=-9.0, sync_match=5.0), 0.3)
    correlated = quality(signals_row(0, av_correlation=0.9), 0.0)
    less = quality(signals_row(0, av_correlation=0.2), 0.0)
    unmeasured = quality(signals_row(0, av_correlation=None), 0.0)
    assert learned_corrected > learned_bad > correlated > less > unmeasured
