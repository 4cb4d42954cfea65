from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from soundstage.config import Config, SoundstageConfig
from soundstage.config.slices import PromoteSlice, stage_slice
from soundstage.config.tree import PromoteConfig, RegistryConfig, TrackingConfig
from soundstage.errors import DataError, GateRefused
from soundstage.stages import NullTracker, Outcome, StageRecord, Work, Workspace, execute
from soundstage.stages.files import write_json
from soundstage.tracking import promote
from soundstage.tracking.door import Place
from soundstage.tracking.lineage import COMPARABLE, METRICS
from soundstage.tracking.promote import VERDICT_TAG, judge_candidate, require_promoted, settle
from soundstage.tracking.registry import CHAMPION, list_versions, version_with

from .test_gate import evaluation

SAME_CLIPS, OTHER_CLIPS = "clips-a", "clips-b"


class Registry:
    """A registered model of this test, its versions made without their files: the gate never opens them."""

    def __init__(self, workspace: Workspace, place: Place, tracking: TrackingConfig, name: str) -> None:
        self.workspace, self.place, self.tracking, self.name = workspace, place, tracking, name
        place.client.create_registered_model(name)

    def add(self, true_mean: float, comparable: str = SAME_CLIPS) -> str:
        tags = {COMPARABLE: comparable, METRICS: json.dumps({"true": {"mean": true_mean}})}
        return str(self.place.client.create_model_version(self.name, source="file:///nowhere", tags=tags).version)

    def crown(self, version: str) -> None:
        self.place.client.set_registered_model_alias(self.name, CHAMPION, version)

    @property
    def champion(self) -> str | None:
        found = version_with(list_versions(self.place, self.name), CHAMPION)
        return found.version if found else None

    def tags(self, version: str) -> Mapping[str, str]:
        return dict(self.place.client.get_model_version(self.name, version).tags)

    def slice(self, **changes: Any) -> PromoteSlice:
        config = SoundstageConfig(tracking=self.tracking, registry=RegistryConfig(name=self.name), **changes)
        made = stage_slice("promote", config)
        assert isinstance(made, PromoteSlice)
        return made

    def model(self, version: str, **changes: Any) -> dict[str, Any]:
        known = {"name": self.name, "version": version, "comparable": SAME_CLIPS, "stage_two": ""}
        return known | {"trainable_share": 0.018, "max_share": 0.019} | changes

    def promote(
        self, version: str, result: Mapping[str, Any] | None = None, model: Any = None, **config: Any
    ) -> tuple[dict[str, Any], StageRecord]:
        """Run the stage as the catalogue does, on records made by small stages."""
        evaluated = self._stage("evaluate", {"evaluation.json": result or evaluation()}, {})
        registered = self._stage(
            "register", {"model.json": self.model(version, **(model or {}))}, {"evaluation": evaluated}
        )
        inputs = {"model": registered, "evaluation": evaluated}
        options = {"code_version": "c0de", "cacheable": False}
        slice_ = self.slice(**config)
        record = execute("promote", promote.run, slice_, inputs, self.workspace, **options).record  # type: ignore[arg-type]
        verdict: dict[str, Any] = json.loads(self.workspace.output(record, "verdict.json").read_text())
        return verdict, record

    def _stage(self, stage: str, files: Mapping[str, Any], inputs: Mapping[str, StageRecord]) -> StageRecord:
        def write(config: Config, inputs: Mapping[str, StageRecord], work: Work) -> Outcome:
            for name, value in files.items():
                write_json(work.out / name, value)
            return Outcome()

        return execute(stage, write, Config(), inputs, self.workspace, code_version="x", cacheable=False).record


@pytest.fixture
def registry(workspace: Workspace, place: Place, tracking: TrackingConfig, name: str) -> Registry:
    return Registry(workspace, place, tracking, name)


def test_first_good_model_becomes_champion(registry: Registry) -> None:
    version = registry.add(0.80)
    verdict, record = registry.promote(version)
    require_promoted(verdict)
    assert registry.champion == version
    assert (verdict["champion_before"], verdict["champion_after"]) == (None, version)
    assert record.metrics == {"promoted": 1.0}
    tags = registry.tags(version)
    assert tags["soundstage.promoted"] == "true"
    assert json.loads(tags[VERDICT_TAG]) == verdict


BAD: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ("min_true", {"true": 0.59}, {}, {}),
    ("min_true", {"true": math.nan}, {}, {}),
    ("min_true", {"true": None}, {}, {}),
    ("max_swapped", {"swapped": 0.21}, {}, {}),
    ("max_late", {"late": 0.21}, {}, {}),
    ("max_stage_two_loss", {}, {"stage_two": "skipped: no reviewed clip"}, {}),
    ("max_share", {}, {"trainable_share": 0.02}, {}),
    ("max_share", {}, {"trainable_share": None}, {}),
    ("min_clips", {}, {}, {"promote": PromoteConfig(min_clips=65)}),
    ("not_trial", {}, {}, {"trial": True}),
]


@pytest.mark.parametrize(("rule", "means", "model", "config"), BAD, ids=lambda value: value if value else "-")
def test_one_failed_rule_and_the_champion_stays(
    registry: Registry, rule: str, means: Any, model: Any, config: Any
) -> None:
    registry.crown(registry.add(0.5, OTHER_CLIPS))  # no yardstick, so that one rule alone can fail
    version = registry.add(0.80)
    verdict, record = registry.promote(version, evaluation(**means), model, **config)
    assert [r["name"] for r in verdict["rules"] if not r["passed"]] == [rule]
    assert registry.champion == verdict["champion_after"] == "1"
    assert record.metrics == {"promoted": 0.0}
    assert record.notes["verdict"].startswith("refused: ")
    assert registry.tags(version)["soundstage.promoted"] == "false"
    with pytest.raises(GateRefused, match=rf"version 1 stays champion; failed rules:\n  {rule}: ") as caught:
        require_promoted(verdict)
    assert caught.value.exit_code == 3


def test_worse_than_the_champion_on_the_same_clips_is_refused(registry: Registry) -> None:
    registry.crown(registry.add(0.90))
    version = registry.add(0.80)
    verdict, _ = registry.promote(version)
    assert registry.champion == "1"
    with pytest.raises(GateRefused, match=r"max_champion_loss: .* 0\.8 against 0\.9, .* short by 0\.07"):
        require_promoted(verdict)


def test_champion_measured_on_other_clips_is_not_compared_and_the_verdict_says_so(registry: Registry) -> None:
    registry.crown(registry.add(0.99, OTHER_CLIPS))
    version = registry.add(0.80)
    verdict, record = registry.promote(version)
    assert verdict["promoted"]
    assert registry.champion == version
    assert "not compared" in record.notes["champion"]
    assert "max_champion_loss" not in [rule["name"] for rule in verdict["rules"]]


def test_champion_judged_again_stays_and_says_so(registry: Registry) -> None:
    version = registry.add(0.80)
    registry.promote(version)
    verdict, record = registry.promote(version)
    assert verdict["promoted"]
    assert verdict["champion_before"] == verdict["champion_after"] == registry.champion == version
    assert "already champion" in record.notes["champion"]


def test_champion_that_would_no_longer_pass_keeps_its_alias_but_is_refused(registry: Registry) -> None:
    version = registry.add(0.80)
    registry.promote(version)
    verdict, _ = registry.promote(version, promote=PromoteConfig(min_true=0.95))
    assert not verdict["promoted"]
    assert registry.champion == version


def test_champion_that_changed_meanwhile_makes_the_judgement_void(
    registry: Registry, workspace: Workspace, place: Place, tmp_path: Path
) -> None:
    registry.crown(registry.add(0.5))
    version, rival = registry.add(0.80), registry.add(0.85)
    judgement = judge_candidate(place, registry.slice(), registry.model(version), evaluation())
    assert judgement.passed
    registry.crown(rival)  # by another process, after the comparison
    work = Work(workspace, tmp_path, tmp_path, NullTracker())
    verdict = settle(workspace, place, judgement, work)
    assert not verdict["promoted"]
    assert registry.champion == verdict["champion_after"] == rival
    assert json.loads((tmp_path / "verdict.json").read_text()) == verdict
    with pytest.raises(GateRefused, match=f"champion_unchanged: .*from version 1 to {rival}"):
        require_promoted(verdict)


def test_evaluation_of_another_model_is_refused(registry: Registry, workspace: Workspace) -> None:
    version = registry.add(0.80)
    _, record = registry.promote(version)
    registered = StageRecord.load(workspace.manifest("register") / "record.json")
    other = registry._stage("evaluate", {"evaluation.json": evaluation(true=0.99)}, {})
    assert record.inputs["evaluation"].content != other.content
    inputs = {"model": registered, "evaluation": other}
    with pytest.raises(DataError, match="run `soundstage register`"):
        execute("promote", promote.run, registry.slice(), inputs, workspace, code_version="c", cacheable=False)
