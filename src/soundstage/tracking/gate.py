"""The gate's rules, as pure functions of numbers: what is found, what is needed, and whether it holds.

A number that is missing, null or not finite fails its rule: what was not measured is not promoted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..config.tree import PromoteConfig

# Absorbs the rounding of one subtraction of numbers near 1, so that 0.80 is not "more than 0.03 below" 0.83.
ROUNDING = 1e-9

JUDGED_CONDITIONS = ("true", "swapped", "late")


@dataclass(frozen=True)
class Rule:
    """One rule and how it came out."""

    name: str
    passed: bool
    found: float | None
    needed: float | None
    text: str

    def as_dict(self) -> dict[str, Any]:
        """The rule as it stands in `verdict.json`."""
        return asdict(self)


@dataclass(frozen=True)
class Evidence:
    """What the gate knows of a candidate."""

    evaluation: Mapping[str, Any]
    """content of `evaluation.json`"""
    trainable_share: float | None
    """new trainable parameters over those of the frozen transformer"""
    max_share: float
    stage_two_skipped: str = ""
    """why there was no stage two; empty when there was one"""
    trial: bool = False


@dataclass(frozen=True)
class Champion:
    """The serving version, as far as it can be compared."""

    version: str
    true_mean: float | None
    comparable: bool
    """evaluated on the same test clips by the same protocol"""


def number(values: Any, *path: str) -> float | None:
    """The finite number at `path` of nested mappings, or None."""
    for key in path:
        if not isinstance(values, Mapping) or key not in values:
            return None
        values = values[key]
    if isinstance(values, bool) or not isinstance(values, int | float) or not math.isfinite(values):
        return None
    return float(values)


def judge(evidence: Evidence, champion: Champion | None, limits: PromoteConfig) -> list[Rule]:
    """Apply every rule; all are evaluated, so that a refusal names all that failed.

    A champion that was evaluated otherwise is no yardstick: then no rule compares with it.
    """
    found = {name: number(evidence.evaluation, "metrics", "motion_corr", name, "mean") for name in JUDGED_CONDITIONS}
    rules = [
        _not_trial(evidence.trial),
        _at_least("min_true", found["true"], limits.min_true, "mean motion correlation with the true audio"),
        _at_most("max_swapped", found["swapped"], limits.max_swapped, "mean with another clip's audio"),
        _at_most("max_late", found["late"], limits.max_late, "mean with the clip's own audio, late"),
        _stage_two(evidence, limits.max_stage_two_loss),
        _at_least("min_clips", _clips(evidence.evaluation), limits.min_clips, "test clips measured in every condition"),
        _at_most("max_share", evidence.trainable_share, evidence.max_share, "trainable share of the backbone"),
    ]
    if champion is not None and champion.comparable:
        rules.append(_champion(found["true"], champion, limits.max_champion_loss))
    return rules


def _not_trial(trial: bool) -> Rule:
    text = "a trial run (capped steps) is never promoted" if trial else "a full run, not a trial"
    return Rule("not_trial", not trial, None, None, text)


def _at_least(name: str, found: float | None, needed: float, what: str) -> Rule:
    if found is None:
        return _missing(name, needed, what)
    short = needed - found
    if short <= 0:
        return Rule(name, True, found, needed, f"{what}: {found:.4g}, at least {needed:.4g}")
    return Rule(name, False, found, needed, f"{what}: {found:.4g}, needs at least {needed:.4g}, short by {short:.4g}")


def _at_most(name: str, found: float | None, needed: float, what: str) -> Rule:
    if found is None:
        return _missing(name, needed, what)
    over = found - needed
    if over <= 0:
        return Rule(name, True, found, needed, f"{what}: {found:.4g}, at most {needed:.4g}")
    return Rule(name, False, found, needed, f"{what}: {found:.4g}, allowed at most {needed:.4g}, over by {over:.4g}")


def _missing(name: str, needed: float | None, what: str) -> Rule:
    return Rule(name, False, None, needed, f"{what}: not measured (missing, null or not finite)")


def _stage_two(evidence: Evidence, max_loss: float) -> Rule:
    name, what = "max_stage_two_loss", "stage two minus stage one"
    if evidence.stage_two_skipped:
        return Rule(name, False, None, -max_loss, f"{what}: there was no stage two ({evidence.stage_two_skipped})")
    paired = ("paired", "stage_two_minus_stage_one")
    mean, low, high = (number(evidence.evaluation, *paired, part) for part in ("mean", "low", "high"))
    if mean is None or low is None or high is None:
        return _missing(name, -max_loss, f"{what}, paired, with its interval")
    passed = mean >= -max_loss - ROUNDING
    interval = f"{mean:+.4g} [{low:+.4g}, {high:+.4g}]"
    end = "" if passed else f", over by {-max_loss - mean:.4g}"
    return Rule(name, passed, mean, -max_loss, f"{what}: {interval}, may lose at most {max_loss:.4g}{end}")


def _clips(evaluation: Mapping[str, Any]) -> float | None:
    """Test clips that stand behind every judged mean: a clip that a condition could not score counts for none."""
    counts = [number(evaluation, "clips")]
    counts += [number(evaluation, "metrics", "motion_corr", name, "n") for name in JUDGED_CONDITIONS]
    known = [count for count in counts if count is not None]
    return min(known) if len(known) == len(counts) else None


def _champion(found: float | None, champion: Champion, max_loss: float) -> Rule:
    name, what = "max_champion_loss", f"candidate against champion version {champion.version}"
    if found is None or champion.true_mean is None:
        return _missing(name, champion.true_mean, what)
    needed = champion.true_mean - max_loss
    passed = found >= needed - ROUNDING
    end = "" if passed else f", short by {needed - found:.4g}"
    text = f"{what}: {found:.4g} against {champion.true_mean:.4g}, may be at most {max_loss:.4g} below{end}"
    return Rule(name, passed, found, needed, text)
