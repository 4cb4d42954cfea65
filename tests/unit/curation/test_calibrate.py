"""Curves against counting by hand, laws of thresholds, and refusals."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from soundstage.config.load import load_config
from soundstage.config.tree import SelectConfig
from soundstage.curation.calibrate import Calibration, calibrate, choose, override, precision_curve, scores_of_synchrony
from soundstage.errors import ConfigError, DataError
from tests.unit.curation.records import clip_id, clip_row, signals_row


def _sample(seed: int, n: int = 200) -> tuple[Any, Any]:
    """Scores with ties, good ones higher by about one deviation."""
    rng = np.random.default_rng(seed)
    good = rng.random(n) < 0.6
    return np.round(rng.normal(size=n) + 1.2 * good, 1), good


@pytest.mark.parametrize("keeps", ["above", "below"])
@pytest.mark.parametrize("seed", range(3))
def test_every_point_is_what_counting_gives(seed: int, keeps: Any) -> None:
    scores, good = _sample(seed)
    points = precision_curve(scores, good, keeps)
    assert sorted(point.threshold for point in points) == sorted(set(scores.tolist()))
    for point in points:
        is_kept = [s >= point.threshold if keeps == "above" else s <= point.threshold for s in scores]
        hits = sum(k and g for k, g in zip(is_kept, good, strict=True))
        assert (point.kept, point.good) == (sum(is_kept), hits)
        assert point.precision == hits / sum(is_kept)
        assert point.recall == hits / good.sum()
        assert point.precision_low <= point.precision <= point.precision_high


def test_stricter_thresholds_keep_less() -> None:
    points = precision_curve(*_sample(7))
    for name in ("kept", "good", "recall", "recall_low", "recall_high"):
        values = [getattr(point, name) for point in points]
        assert values == sorted(values, reverse=True), name
    assert points[0].kept == 200
    assert points[0].recall == 1.0
    with_worst_first = precision_curve(np.arange(50.0), np.arange(50) >= 20)
    assert [p.precision for p in with_worst_first] == sorted(p.precision for p in with_worst_first)


@pytest.mark.parametrize("bound", ["point", "lower"])
def test_the_loosest_threshold_that_reaches_the_precision_is_chosen(bound: Any) -> None:
    points = precision_curve(*_sample(1, n=2000))
    chosen = choose(points, 0.8, bound)
    assert chosen is not None
    reached = [p for p in points if (p.precision if bound == "point" else p.precision_low) >= 0.8]
    assert chosen.kept == max(p.kept for p in reached)
    assert choose(points, 1.01, bound) is None


def test_the_lower_bound_is_stricter_and_needs_enough_labels() -> None:
    points = precision_curve(*_sample(1, n=2000))
    by_point, by_bound = choose(points, 0.8, "point"), choose(points, 0.8, "lower")
    assert by_point is not None
    assert by_bound is not None
    assert by_bound.threshold > by_point.threshold
    # n good ones in a row have the lower bound n / (n + z^2), so 0.95 takes 19 z^2 = 72.99: 73 of them.
    for n, reached in ((72, False), (73, True)):
        perfect = precision_curve(np.ones(n), np.ones(n, dtype=bool))
        assert (choose(perfect, 0.95, "lower") is not None) == reached


def test_the_threshold_found_holds_on_fresh_clips() -> None:
    chosen = choose(precision_curve(*_sample(0, n=20_000)), 0.9, "point")
    assert chosen is not None
    fresh, good = _sample(1, n=20_000)
    kept = fresh >= chosen.threshold
    assert good[kept].mean() == pytest.approx(0.9, abs=0.01)  # four standard errors of 10,000 clips are 0.012


def _calibrate(
    score: str, verdicts: str, values: list[float | None], config: SelectConfig | None = None, **clip_1: Any
) -> Calibration:
    """`verdicts`: a letter a clip, `k`eep, `d`rop or `s`hift; `values` of the score."""
    names = {"k": "keep", "d": "drop", "s": "shift"}
    labels = {clip_id(n): names[letter] for n, letter in enumerate(verdicts)} | {"gone": "keep"}
    clips = {clip_id(n): clip_row(n, **(clip_1 if n == 1 else {})) for n in range(len(verdicts))}
    signals = {clip_id(n): signals_row(n, **({"sync_score": -1.0} | {score: v})) for n, v in enumerate(values)}
    return calibrate(score, labels, clips, signals, config or SelectConfig(), Fraction(2), 0.9, "point")


TWENTY = "k" * 10 + "d" * 10
RISING = [float(n) for n in range(20, 0, -1)]


def test_only_clips_that_reach_the_threshold_count_and_all_are_accounted_for() -> None:
    verdicts, values = "kk" + "k" * 10 + "d" * 10, [None, 5.0, *RISING]
    found = _calibrate("sync_match", verdicts, values, duplicate_of=clip_id(0))
    assert dict(found.counts) == {
        "labelled": 23, "used": 20, "good": 10, "unknown": 1, "unfit": 1, "without_score": 1,
    }  # fmt: skip
    assert found.chosen is not None
    assert (found.chosen.threshold, found.chosen.kept, found.chosen.precision) == (10.0, 11, 10 / 11)


def test_a_shift_is_good_at_the_best_offset_and_bad_where_it_stands() -> None:
    verdicts = "s" * 10 + "k" * 10 + "d" * 10
    values: list[float | None] = [float(n) for n in range(30)]
    assert _calibrate("sync_match", verdicts, values).counts["good"] == 20
    assert _calibrate("sync_score", verdicts, values).counts["good"] == 10


def test_a_threshold_of_corrections_is_judged_on_clips_that_are_not_left_as_they_are() -> None:
    config = SelectConfig(min_sync_score=-2.0)
    with pytest.raises(DataError, match="20 decided on without it"):
        _calibrate("sync_match", TWENTY, [*RISING], config)
    assert _calibrate("sync_score", TWENTY, [*RISING], config).counts["used"] == 20


def test_scores_of_synchrony_are_those_that_selection_uses() -> None:
    rows = {"a": signals_row(0), "b": signals_row(1, sync_score=0.5)}
    assert scores_of_synchrony(rows) == ["sync_score", "sync_match"]
    assert scores_of_synchrony({"a": rows["a"]}) == ["av_correlation"]


def test_a_highest_value_keeps_what_is_below_though_a_threshold_is_set() -> None:
    share = [n / 100 for n in range(20)]
    found = _calibrate("speech_share", TWENTY, [*share], SelectConfig(max_speech_share=0.05))
    assert (found.keeps, found.field, found.counts["used"]) == ("below", "max_speech_share", 20)
    assert found.chosen is not None
    assert found.chosen.threshold == 0.1  # ten good, and the first bad one at 0.10 makes 10 of 11


def test_the_override_is_a_configuration(tmp_path: Any) -> None:
    import yaml

    found = [
        _calibrate("av_correlation", TWENTY, [x / 20 for x in RISING]),
        _calibrate("cuts", TWENTY, [0] * 10 + [3] * 10),
        _calibrate("onsets_per_sec", TWENTY, [*RISING]),
    ]
    values = override(found)
    assert values == {"select": {"min_sync_correlation": 0.5, "max_cuts": 0}}
    path = tmp_path / "thresholds.yaml"
    path.write_text(yaml.safe_dump(values))
    tree = load_config("tiny", path)
    assert (tree.select.min_sync_correlation, tree.select.max_cuts) == (0.5, 0)


@pytest.mark.parametrize(
    ("verdicts", "message"),
    [
        (
            "k" * 9 + "d" * 11,
            r"9 good and 11 bad clips, expected at least 10 of each. Of 21 labelled clips 1 are unknown",
        ),
        ("k" * 20, "20 good and 0 bad clips"),
        ("", r"0 good and 0 bad clips.*review export --order random"),
    ],
)
def test_too_few_or_one_sided_labels_are_refused(verdicts: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        _calibrate("sync_match", verdicts, [*RISING][: len(verdicts)])


def test_an_unknown_score_is_answered_with_the_known() -> None:
    with pytest.raises(ConfigError, match=r"--score clip_id is no numeric signal; signals: black_share"):
        _calibrate("clip_id", TWENTY, [*RISING])
