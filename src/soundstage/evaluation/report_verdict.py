"""The report's first part: what was trained, whether it was promoted and why, and the numbers that decided it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .report_numbers import NOT_MEASURED, fixed, interval, limit

KEY_CONDITIONS = ("true", "swapped", "late")

_AT_LEAST, _AT_MOST = "≥", "≤"
# The direction in which the gate reads the number it needs.
_DIRECTIONS = {
    "min_true": _AT_LEAST,
    "min_clips": _AT_LEAST,
    "max_stage_two_loss": _AT_LEAST,
    "max_champion_loss": _AT_LEAST,
    "max_swapped": _AT_MOST,
    "max_late": _AT_MOST,
    "max_share": _AT_MOST,
}
_RULE_OF = {"true": "min_true", "swapped": "max_swapped", "late": "max_late"}
_WHOLE_NUMBERS = frozenset({"min_clips"})


@dataclass(frozen=True)
class RuleLine:
    """One rule of the gate, ready to print."""

    name: str
    passed: bool
    found: str
    needed: str
    text: str


@dataclass(frozen=True)
class KeyNumber:
    """One large number with its interval and the rule that reads it."""

    condition: str
    what: str
    mean: str
    interval: str
    n: int
    needed: str
    passed: bool | None
    """None: no rule reads it"""


@dataclass(frozen=True)
class Headline:
    """The first part, ready to print."""

    preset: str
    trial: bool
    promoted: bool
    model: str
    version: str
    aliases: list[str]
    champion_before: str
    note: str
    rules: list[RuleLine]
    numbers: list[KeyNumber]


def headline(summary: Mapping[str, Any], run_config: Mapping[str, Any], conditions: Mapping[str, str]) -> Headline:
    """Build the first part from the summary, the run's configuration and what each condition means."""
    verdict, model = summary["verdict"], summary["model"]
    rules = [_rule_line(rule) for rule in verdict["rules"]]
    measured = summary["metrics"].get("motion_corr", {})
    return Headline(
        preset=str(run_config.get("preset", "unknown")),
        trial=bool(run_config.get("trial", False)),
        promoted=bool(summary["promoted"]),
        model=str(model["name"]),
        version=str(model["version"]),
        aliases=[str(alias) for alias in model["aliases"]],
        champion_before=str(verdict.get("champion_before") or ""),
        note=str(verdict.get("note") or ""),
        rules=rules,
        numbers=[
            _key_number(name, measured.get(name) or {}, conditions.get(name, ""), {rule.name: rule for rule in rules})
            for name in KEY_CONDITIONS
        ],
    )


def read_run_config(folder: Path) -> dict[str, Any]:
    """The resolved configuration saved in a run's folder; empty when there is none."""
    path = folder / "config.yaml"
    if not path.is_file():
        return {}
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    return values if isinstance(values, dict) else {}


def thresholds(rules: list[Mapping[str, Any]]) -> dict[str, tuple[str, float]]:
    """Direction and limit of each condition that a rule of the gate reads: {"true": ("≥", 0.6), ...}."""
    needed = {str(rule["name"]): rule["needed"] for rule in rules}
    return {
        condition: (_DIRECTIONS[name], float(needed[name]))
        for condition, name in _RULE_OF.items()
        if needed.get(name) is not None
    }


def _rule_line(rule: Mapping[str, Any]) -> RuleLine:
    name = str(rule["name"])
    digits = 0 if name in _WHOLE_NUMBERS else 3
    has_limit = rule["needed"] is not None
    found = fixed(rule["found"], digits) if rule["found"] is not None else (NOT_MEASURED if has_limit else "")
    needed = f"{_DIRECTIONS.get(name, '')} {limit(rule['needed'])}".strip() if has_limit else ""
    return RuleLine(name, bool(rule["passed"]), found, needed, str(rule["text"]))


def _key_number(condition: str, entry: Mapping[str, Any], what: str, rules: Mapping[str, RuleLine]) -> KeyNumber:
    rule = rules.get(_RULE_OF[condition])
    return KeyNumber(
        condition=condition,
        what=what,
        mean=fixed(entry.get("mean")),
        interval=interval(entry),
        n=int(entry.get("n") or 0),
        needed=rule.needed if rule else "",
        passed=rule.passed if rule else None,
    )
