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
    other = _plan(load_config("micro", overrides=["ingest.workers=1"]))
    _make(other, "ingest", workspace, "clips")
    assert "split" in other.results(workspace), "equal clips must find the split made from the first ones"
    _make(plan, "ingest", workspace, "clips")
    changed = _plan(load_config("micro", overrides=["ingest.workers=7"]))
    _make(changed, "ingest", workspace, "other clips")
    assert "split" not in changed.results(workspace)


def test_unknown_stage_is_answered_with_the_known_ones():
    with pytest.raises(Exception, match=r"no stage is called 'scoer'.*ingest, split"):
        find_stage("scoer")
