from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest

from soundstage.config.tree import PromoteConfig
from soundstage.tracking.gate import Champion, Evidence, Rule, judge

LIMITS = PromoteConfig()


def evaluation(**means: Any) -> dict[str, Any]:
    """An evaluation that passes the default rules with room to spare, save for what is given."""
    values = {"true": 0.80, "swapped": 0.05, "late": -0.10, "silent": 0.0} | means
    interval = {name: {"mean": mean, "low": -1.0, "high": 1.0, "n": 64} for name, mean in values.items()}
    paired = {"stage_two_minus_stage_one": {"mean": 0.01, "low": -0.01, "high": 0.03, "n": 64}}
    return {"protocol": {"frames": 12}, "clips": 64, "metrics": {"motion_corr": interval}, "paired": paired}


def changed(path: str, value: Any) -> dict[str, Any]:
    """A passing evaluation with the entry at a dotted path set, or removed when `value` is Ellipsis."""
    result = copy.deepcopy(evaluation())
    *parents, leaf = path.split(".")
    node = result
    for part in parents:
        node = node[part]
    if value is ...:
        del node[leaf]
    else:
        node[leaf] = value
    return result


GOOD = Evidence(evaluation=evaluation(), trainable_share=0.018, max_share=0.019)


def failed(rules: list[Rule]) -> list[str]:
    return [rule.name for rule in rules if not rule.passed]


def test_a_good_model_passes_every_rule() -> None:
    rules = judge(GOOD, None, LIMITS)
    assert failed(rules) == []
    assert [rule.name for rule in rules] == [
        "not_trial",
        "min_true",
        "max_swapped",
        "max_late",
        "max_stage_two_loss",
        "min_clips",
        "max_share",
    ]


CORR = "metrics.motion_corr"
STAGE_TWO = "paired.stage_two_minus_stage_one"
MISSING: list[Any] = [None, math.nan, math.inf, -math.inf, "0.9", True, ...]
ONE_BAD: list[tuple[str, str, list[Any]]] = [
    ("min_true", f"{CORR}.true.mean", [0.5999, *MISSING]),
    ("max_swapped", f"{CORR}.swapped.mean", [0.2001, *MISSING]),
    ("max_late", f"{CORR}.late.mean", [0.2001, *MISSING]),
    ("max_stage_two_loss", f"{STAGE_TWO}.mean", [-0.0301, *MISSING]),
    ("max_stage_two_loss", f"{STAGE_TWO}.low", [math.nan, ...]),
    ("max_stage_two_loss", "paired", [{}, ...]),
    ("min_clips", "clips", [63, *MISSING]),
    ("min_clips", f"{CORR}.late.n", [63, *MISSING]),
]


@pytest.mark.parametrize(
    ("rule", "path", "value"), [(rule, path, value) for rule, path, values in ONE_BAD for value in values], ids=repr
)
def test_one_bad_or_missing_number_fails_exactly_its_rule(rule: str, path: str, value: Any) -> None:
    rules = judge(replace(GOOD, evaluation=changed(path, value)), None, LIMITS)
    assert failed(rules) == [rule]


@pytest.mark.parametrize(
    ("rule", "evidence"),
    [
        ("not_trial", replace(GOOD, trial=True)),
        ("max_stage_two_loss", replace(GOOD, stage_two_skipped="skipped: no clip was reviewed")),
        ("max_share", replace(GOOD, trainable_share=0.0191)),
        ("max_share", replace(GOOD, trainable_share=None)),
        ("max_share", replace(GOOD, trainable_share=math.nan)),
    ],
)
def test_other_evidence_fails_exactly_its_rule(rule: str, evidence: Evidence) -> None:
    assert failed(judge(evidence, None, LIMITS)) == [rule]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (f"{CORR}.true.mean", 0.60),
        (f"{CORR}.swapped.mean", 0.20),
        (f"{CORR}.late.mean", 0.20),
        (f"{STAGE_TWO}.mean", -0.03),
        (f"{STAGE_TWO}.mean", 0.80 - 0.83),  # -0.029999999999999916 and its kin must not fall on the wrong side
    ],
)
def test_a_value_at_the_limit_passes(path: str, value: float) -> None:
    assert failed(judge(replace(GOOD, evaluation=changed(path, value)), None, LIMITS)) == []


def test_every_failed_rule_is_named_with_its_shortfall() -> None:
    bad = replace(GOOD, evaluation=evaluation(true=0.25, swapped=0.5), trial=True)
    rules = {rule.name: rule for rule in judge(bad, None, LIMITS)}
    assert failed(list(rules.values())) == ["not_trial", "min_true", "max_swapped"]
    assert "0.25, needs at least 0.6, short by 0.35" in rules["min_true"].text
    assert "0.5, allowed at most 0.2, over by 0.3" in rules["max_swapped"].text


@pytest.mark.parametrize(
    ("champion", "expected"),
    [
        (Champion("3", 0.83, True), []),  # 0.80 is 0.03 below, the limit
        (Champion("3", 0.8301, True), ["max_champion_loss"]),
        (Champion("3", None, True), ["max_champion_loss"]),
        (Champion("3", 0.99, False), []),  # evaluated otherwise: no yardstick
        (Champion("3", 0.10, True), []),
    ],
)
def test_champion_on_the_same_clips_is_the_yardstick(champion: Champion, expected: list[str]) -> None:
    assert failed(judge(GOOD, champion, LIMITS)) == expected


def test_limits_that_are_no_number_let_nothing_pass() -> None:
    rules = judge(GOOD, None, PromoteConfig(min_true=math.nan, max_late=math.nan, max_stage_two_loss=math.nan))
    assert failed(rules) == ["min_true", "max_late", "max_stage_two_loss"]
