"""A submission's plan: what it sends is what stages parse, and what it finds is what stages made."""

from __future__ import annotations

import inspect
import json

import pytest

from pipelines.plan import Plan
from soundstage.catalog import STAGES, find_stage
from soundstage.config import SoundstageConfig, load_config, parse
from soundstage.front import slice_class
from soundstage.stages import Workspace
from soundstage.stages.execute import Outcome, execute


def _plan(config: SoundstageConfig, codes: str = "code") -> Plan:
    slices = {name: stage.slice_of(config) for name, stage in STAGES.items()}
    return Plan(slices, dict.fromkeys(STAGES, codes), dict.fromkeys(STAGES, ""))


def _make(plan: Plan, name: str, workspace: Workspace, text: str) -> None:
    found = plan.results(workspace)

    def function(config, inputs, work):
        (work.out / "result.txt").write_text(text)
        return Outcome()

    inputs = {role: found[source] for role, source in STAGES[name].inputs.items()}
    execute(name, function, plan.slices[name], inputs, workspace, code_version=plan.code_versions[name])


@pytest.mark.parametrize("preset", ["tiny", "micro"])
def test_arguments_are_the_pipelines_parameters_and_give_back_the_slices(preset):
    from pipelines.training.pipeline import training

    config = load_config(preset, overrides=["model.adapter.window_sec=.inf", "ingest.source=/data/ünï \"q\" 'p'"])
    arguments = _plan(config).arguments()
    assert list(arguments) != []
    assert set(arguments) == set(inspect.signature(training.pipeline_func).parameters)
    for name, stage in STAGES.items():
        text = arguments[f"{stage.slice_name or name}_config"]
        assert parse(slice_class(stage), json.loads(text), origin="test") == stage.slice_of(config)


def test_results_go_as_far_as_inputs_are_known(tmp_path):
    workspace, plan = Workspace.open(tmp_path), _plan(load_config("micro"))
    assert plan.results(workspace) == {}
    _make(plan, "ingest", workspace, "clips")
    _make(plan, "split", workspace, "splits")
    assert list(plan.results(workspace)) == ["ingest", "split"]


def test_results_follow_the_content_of_inputs_not_their_making(tmp_path):
    workspace, plan = Workspace.open(tmp_path), _plan(load_config("micro"))
    _make(plan, "ingest", workspace, "clips")
    _make(plan, "split", workspace, "splits")
    other = _plan(load_config("micro", overrides=["ingest.max_duration_sec=500"]))
    _make(other, "ingest", workspace, "clips")
    assert "split" in other.results(workspace), "equal clips must find the split made from the first ones"
    _make(plan, "ingest", workspace, "clips")
    changed = _plan(load_config("micro", overrides=["ingest.max_duration_sec=400"]))
    _make(changed, "ingest", workspace, "other clips")
    assert "split" not in changed.results(workspace)


def test_another_adapter_finds_what_was_encoded_and_the_backbone(tmp_path):
    workspace, plan = Workspace.open(tmp_path), _plan(load_config("micro"))
    for name in list(STAGES)[: list(STAGES).index("pretrain") + 1]:
        _make(plan, name, workspace, name)
    assert {"encode", "backbone", "pretrain"} <= set(plan.results(workspace))

    def found(*overrides: str) -> set[str]:
        results = _plan(load_config("micro", overrides=overrides)).results(workspace)
        return {"encode", "backbone", "pretrain"} & set(results)

    adapter = ("model.adapter.window_sec=.inf", "model.adapter.low_rank=1", "model.adapter.inner_dim=1")
    assert found(*adapter) == {"encode", "backbone"}
    assert found("model.audio.encoders.mel.hop_length=80") == set()
    assert found("model.audio.encoders.tower.type=sync_tower") == set()


def test_a_checkpoint_that_changes_reruns_encode_and_backbone_alone(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "listed.mp4").write_bytes(b"never opened")
    (tmp_path / "model").mkdir()
    weights = tmp_path / "model" / "weights"
    weights.write_bytes(b"one")
    workspace = Workspace.open(tmp_path / "workspace")
    overrides = [f"ingest.source={tmp_path / 'source'}", f"model.backbone.pretrained={tmp_path / 'model'}"]
    config = load_config("micro", overrides=overrides)
    before = Plan.of(config, workspace)
    weights.write_bytes(b"other")
    after = Plan.of(config, workspace)
    assert {name for name in STAGES if before.external[name] != after.external[name]} == {"encode", "backbone"}
    sent = after.arguments()
    assert sent["encode_checkpoint"] == sent["backbone_checkpoint"] == after.external["encode"] != ""
    stand_in = Plan.of(load_config("micro", overrides=overrides[:1]), workspace)
    assert stand_in.external["encode"] == stand_in.external["backbone"] == ""


def test_unknown_stage_is_answered_with_the_known_ones():
    with pytest.raises(Exception, match=r"no stage is called 'scoer'.*ingest, split"):
        find_stage("scoer")
