"""The figures of the planted-defect benchmark, against scipy, counting by hand, and fates made up for the purpose."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from planted import stages_up_to
from planted_fates import Fate, _copies_in_their_place
from planted_figures import NOTHING, Stratum, area, proportion, weighted_share
from planted_tables import DETECTED, detection, mix_weights, selection
from scipy.stats import beta

from soundstage.catalog import STAGES
from soundstage.synth.plan import DEFECTS, MIXES


def fate(defect: str = "none", uri: str = "a.mp4", **changes: Any) -> Fate:
    truth = {
        "source_uri": uri,
        "label": "lamp",
        "defect": defect,
        "audio_shift_sec": changes.pop("late_sec", 0.0),
        "event_times_sec": json.dumps([0.2, 0.7, 1.2, 1.7]),
        "original": changes.pop("original", ""),
        "offset_identifiable": defect not in ("swapped", "periodic"),
    }
    fields: dict[str, Any] = {
        "world": "w",
        "truth": truth,
        "is_held_out": False,
        "reject": "",
        "detail": "",
        "clip_id": uri,
        "reasons": (),
        "shift_sec": 0.0,
        "signals": None,
    }
    return Fate(**(fields | changes))


def test_one_kind_alone_has_jeffreys_interval() -> None:
    found = weighted_share({"none": 0.3}, {"none": Stratum(100, 92, 8, True, True)})
    assert found.value == pytest.approx(0.92)
    expected = beta(92.5, 8.5).ppf([0.025, 0.975])
    # 5 000 draws: the outer quantiles of a distribution 0.027 wide are known to about 0.001.
    assert [found.low, found.high] == pytest.approx(expected, abs=4e-3)


def test_weights_undo_that_rare_kinds_are_planted_often() -> None:
    rng = np.random.default_rng(5)
    # In the population silent files are 1 %, found in 90 %, and 2 % of clean ones are taken for silent.
    strata = {"none": Stratum(4000, 0, 80, False, True), "silent": Stratum(1000, 900, 0, True, False)}
    found = weighted_share({"none": 0.99, "silent": 0.01}, strata)
    assert found.value == pytest.approx(0.009 / (0.009 + 0.0198))
    population = rng.random(2_000_000) < 0.01
    flagged = rng.random(2_000_000) < np.where(population, 0.9, 0.02)
    direct = population[flagged].mean()
    assert found.low is not None
    assert found.high is not None
    assert found.low < direct < found.high


def test_no_false_alarm_among_few_files_is_no_proof() -> None:
    few, many = (
        weighted_share(
            {"none": 0.995, "silent": 0.005},
            {"none": Stratum(files, 0, 0, False, True), "silent": Stratum(120, 120, 0, True, False)},
        )
        for files in (100, 100_000)
    )
    assert (few.value, few.high, many.value, many.high) == (1.0, 1.0, 1.0, 1.0)
    assert few.low is not None
    assert many.low is not None
    assert few.low < 0.5 < 0.98 < many.low


def test_a_kind_that_was_not_planted_cannot_be_weighted() -> None:
    with pytest.raises(ValueError, match=r"silent has weight 0\.005"):
        weighted_share({"silent": 0.005}, {})


def test_areas_count_pairs() -> None:
    rng = np.random.default_rng(3)
    high, low = rng.integers(0, 6, 30).tolist(), rng.integers(0, 5, 25).tolist()
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in high for b in low]
    found = area(high, low)
    assert found.value == pytest.approx(np.mean(pairs))
    assert found.low is not None
    assert found.high is not None
    assert found.low < np.mean(pairs) < found.high
    assert found.counts == "n=30+25"
    assert area([1.0], []) == NOTHING
    assert proportion(0, 0) == NOTHING
    assert str(NOTHING) == "-"


@pytest.mark.parametrize(
    ("defect", "late_sec", "shift_sec", "aligned"),
    [
        pytest.param("none", 0.0, 0.0, True, id="clean"),
        pytest.param("none", 0.0, 0.3, False, id="clean-moved"),
        pytest.param("shifted", 0.4, 0.0, False, id="late"),
        pytest.param("shifted", 0.4, -0.36, True, id="late-corrected"),
        pytest.param("shifted", 0.4, 0.4, False, id="corrected-the-wrong-way"),
        pytest.param("periodic", 0.0, 0.52, True, id="periodic-by-a-gap"),
        pytest.param("periodic", 0.0, 0.25, False, id="periodic-by-half-a-gap"),
        pytest.param("swapped", 0.0, 0.0, False, id="swapped"),
    ],
)
def test_alignment(defect: str, late_sec: float, shift_sec: float, aligned: bool) -> None:
    assert fate(defect, late_sec=late_sec, shift_sec=shift_sec).is_aligned is aligned


def test_a_copy_kept_in_place_of_its_original_counts_as_the_original() -> None:
    exact = [
        fate(uri="o", reject="exact_duplicate", detail="same bytes as clip c", clip_id=""),
        fate("duplicate", uri="c", original="o"),
    ]
    near = [fate(uri="p", reasons=("near_duplicate",)), fate("near_duplicate", uri="n", original="p")]
    other = [fate(uri="q", reasons=("near_duplicate",)), fate("near_duplicate", uri="m", original="q")]
    placed = _copies_in_their_place([*exact, *near, *other], {"p": "n", "q": "unrelated", "c": "", "n": "", "m": ""})
    assert [each.is_kept for each in placed] == [True, False, True, False, False, True]
    assert [each.defect for each in placed] == ["none", "duplicate", "none", "near_duplicate", "none", "near_duplicate"]
    assert DETECTED["duplicate"](placed[1])
    assert DETECTED["near_duplicate"](placed[3])


def test_tables_of_a_world_judged_without_fault_and_of_one_left_as_it_is() -> None:
    turned_away = {
        "too_short": {"reject": "too_short"},
        "broken": {"reject": "damaged"},
        "duplicate": {"reject": "exact_duplicate"},
        "shifted": {"late_sec": 0.5, "shift_sec": -0.5},
        "swapped": {"reasons": ("unsynced",)},
        "none": {},
        "periodic": {},
    }
    fates = [
        fate(kind, uri=f"{kind}{number}", **turned_away.get(kind, {"reasons": (kind,)}))
        for kind in ("none", *DEFECTS)
        for number in range(20)
    ]
    rows: dict[str, Any] = detection(fates).values
    assert all(rows[kind]["goal_met"] for kind in rows if kind != "swapped")
    assert rows["silent"]["precision, mild"]["value"] == 1.0
    chosen: dict[str, Any] = selection(fates).values
    for mix in MIXES:
        weights = mix_weights(mix)
        assert sum(weights.values()) == pytest.approx(1.0)
        assert chosen[mix]["aligned share of what is kept"]["value"] == 1.0
        assert chosen[mix]["yield"]["value"] == 1.0
        # Untouched: what is not aligned stays, and shifted clips are not corrected.
        readable = 1.0 - weights.get("too_short", 0.0)
        aligned = weights["none"] + weights.get("duplicate", 0.0) + weights.get("near_duplicate", 0.0)
        assert chosen[mix]["keeping everything: aligned share"]["value"] == pytest.approx(aligned / readable)
    rows = detection([each.untouched() for each in fates]).values
    assert not any(rows[kind]["goal_met"] for kind in ("silent", "still", "cut", "near_duplicate"))


def test_stages_run_after_what_they_need() -> None:
    order = stages_up_to("select")
    assert order[-1] == "select"
    assert len(order) == len(set(order))
    assert all(order.index(source) < order.index(name) for name in order for source in STAGES[name].inputs.values())
