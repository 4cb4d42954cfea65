"""Stage `promote`: judges the candidate, records the verdict, and only then moves the alias `champion`.

The verdict is data first: a refusal leaves `verdict.json` and tags as a promotion does. Whoever started the stage
turns a refusal into an error with `require_promoted`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..config.slices import PromoteSlice
from ..errors import DataError, GateRefused, SoundstageError
from ..stages import Outcome, Work, Workspace
from ..stages.execute import Inputs
from ..stages.files import write_json
from .door import Place, open_place
from .gate import Champion, Evidence, Rule, judge, number
from .lineage import COMPARABLE, METRICS
from .provenance import PREFIX
from .registry import CHAMPION, RegisteredVersion, list_versions, registry_lock, version_with

VERDICT_TAG = f"{PREFIX}.verdict"
PROMOTED_TAG = f"{PREFIX}.promoted"


@dataclass(frozen=True)
class Judgement:
    """Rules as they came out against the champion of one moment."""

    name: str
    version: str
    champion_before: str | None
    rules: tuple[Rule, ...]
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether every rule holds."""
        return all(rule.passed for rule in self.rules)


def run(config: PromoteSlice, inputs: Inputs, work: Work) -> Outcome:
    """Judge the registered model on its evaluation; move the alias only if every rule holds.

    Writes `verdict.json`. Returns normally on a refusal, with metric `promoted` 0.

    Raises:
        DataError: the evaluation is not the one that the model was registered with.
    """
    _check_same_evaluation(inputs)
    model = json.loads(work.workspace.output(inputs["model"], "model.json").read_text())
    evaluation = json.loads(work.workspace.output(inputs["evaluation"], "evaluation.json").read_text())
    place = open_place(work.workspace, config.tracking)
    judgement = judge_candidate(place, config, model, evaluation)
    verdict = settle(work.workspace, place, judgement, work)
    work.tracker.set_tags({PROMOTED_TAG: _flag(verdict["promoted"])})
    failed = [rule for rule in verdict["rules"] if not rule["passed"]]
    notes = {"verdict": "promoted" if verdict["promoted"] else "refused: " + "; ".join(r["text"] for r in failed)}
    if verdict["note"]:
        notes["champion"] = verdict["note"]
    counts = {"rules": len(verdict["rules"]), "rules_failed": len(failed)}
    return Outcome(counts=counts, metrics={"promoted": float(verdict["promoted"])}, notes=notes)


def _check_same_evaluation(inputs: Inputs) -> None:
    registered_with, given = inputs["model"].inputs["evaluation"], inputs["evaluation"]
    if registered_with.content != given.content:
        raise DataError(
            f"the model was registered with evaluation {registered_with.content[:12]}, the gate was given "
            f"{given.content[:12]}; run `soundstage register` on the current evaluation first"
        )


def judge_candidate(
    place: Place, config: PromoteSlice, model: Mapping[str, Any], evaluation: Mapping[str, Any]
) -> Judgement:
    """Apply the rules to `model` (content of `model.json`) against the champion of this moment."""
    versions = list_versions(place, model["name"])
    champion = version_with(versions, CHAMPION)
    compared, note = _as_yardstick(champion, model)
    evidence = Evidence(
        evaluation=evaluation,
        trainable_share=number(model, "trainable_share"),
        max_share=float(model["max_share"]),
        stage_two_skipped=model["stage_two"],
        trial=config.trial,
    )
    rules = tuple(judge(evidence, compared, config.promote))
    return Judgement(model["name"], model["version"], champion.version if champion else None, rules, note)


def _as_yardstick(champion: RegisteredVersion | None, model: Mapping[str, Any]) -> tuple[Champion | None, str]:
    """The champion as the gate compares with it, and a note when it does not."""
    if champion is None:
        return None, "there was no champion to compare with"
    if champion.version == model["version"]:
        return None, f"version {champion.version} is already champion"
    comparable = champion.tags.get(COMPARABLE) == model["comparable"]
    mean = number(json.loads(champion.tags.get(METRICS, "{}")), "true", "mean")
    note = "" if comparable else f"champion version {champion.version} was evaluated on other clips: not compared"
    return Champion(champion.version, mean, comparable), note


def settle(workspace: Workspace, place: Place, judgement: Judgement, work: Work) -> dict[str, Any]:
    """Record the verdict in the stage's output and on the version, then move the alias if it says so.

    The champion is read again under the registry's lock: one that changed since the comparison makes the comparison
    void, and nothing moves.
    """
    with registry_lock(workspace):
        champion = version_with(list_versions(place, judgement.name), CHAMPION)
        now = champion.version if champion else None
        if now != judgement.champion_before:
            judgement = replace(judgement, rules=(*judgement.rules, _changed(judgement.champion_before, now)))
        after = judgement.version if judgement.passed else now
        verdict = {
            "promoted": judgement.passed,
            "rules": [rule.as_dict() for rule in judgement.rules],
            "champion_before": judgement.champion_before,
            "champion_after": after,
            "model": {"name": judgement.name, "version": judgement.version},
            "note": judgement.note,
        }
        write_json(work.out / "verdict.json", verdict)
        _tag(place, judgement, {VERDICT_TAG: json.dumps(verdict), PROMOTED_TAG: _flag(judgement.passed)})
        if after != now:
            _move_champion(place, judgement)
    return verdict


def _changed(before: str | None, now: str | None) -> Rule:
    text = f"the champion changed during the judgement, from version {before} to {now}: run `soundstage promote` again"
    return Rule("champion_unchanged", False, None, None, text)


def _tag(place: Place, judgement: Judgement, tags: Mapping[str, str]) -> None:
    for key, value in tags.items():
        place.client.set_model_version_tag(judgement.name, judgement.version, key, value)


def _move_champion(place: Place, judgement: Judgement) -> None:
    try:
        place.client.set_registered_model_alias(judgement.name, CHAMPION, judgement.version)
    except Exception as error:
        # The verdict on the version must not speak of a deed that was not done.
        _tag(place, judgement, {PROMOTED_TAG: _flag(False)})
        raise SoundstageError(
            f"every rule holds, but the alias {CHAMPION} of {judgement.name} could not be moved to version "
            f"{judgement.version} at {place.uri}: {error}; run `soundstage promote` again"
        ) from error


def _flag(value: bool) -> str:
    return str(value).lower()


def require_promoted(verdict: Mapping[str, Any]) -> None:
    """Turn a refusal into an error; `verdict` is the content of `verdict.json`.

    Raises:
        GateRefused: some rule failed; each is listed with what was found, what is needed and by how much it failed.
    """
    if verdict["promoted"]:
        return
    model = verdict["model"]
    lines = [f"  {rule['name']}: {rule['text']}" for rule in verdict["rules"] if not rule["passed"]]
    kept = verdict["champion_after"]
    raise GateRefused(
        f"{model['name']} version {model['version']} is not promoted; "
        + (f"version {kept} stays champion" if kept else "there is no champion")
        + "; failed rules:\n"
        + "\n".join(lines)
    )
