"""dvc.yaml says of each stage what the catalogue says."""

from __future__ import annotations

import pytest
import yaml

from pipelines.compile import ROOT
from soundstage.catalog import STAGES
from soundstage.commands import dvc_file
from soundstage.config import SoundstageConfig, load_config


@pytest.mark.parametrize("layout", [dvc_file.USER_LAYOUT, dvc_file.PROJECT_LAYOUT], ids=["user", "project"])
def test_chain_is_that_of_the_catalogue(layout):
    stages = yaml.safe_load(dvc_file.render(layout, "head"))["stages"]
    assert list(stages) == [dvc_file.CODE_STAGE, *STAGES]
    for name, stage in STAGES.items():
        deps = stages[name].get("deps", [])
        before = [*stage.inputs.values(), *([dvc_file.GATES[name]] if name in dvc_file.GATES else [])]
        assert [item for item in deps if "manifests" in item] == [layout.inside(f"manifests/{item}") for item in before]
        assert stages[name]["outs"] == [layout.inside(f"manifests/{name}")]
        # Videos, the ledger, a saved scorer, the registry: DVC sees none of them.
        outside = bool(stage.external) or not stage.cacheable
        assert stages[name].get("always_changed", False) == outside


def test_project_stages_depend_on_their_own_source():
    stages = yaml.safe_load(dvc_file.render(dvc_file.PROJECT_LAYOUT, "head"))["stages"]
    for name in STAGES:
        (own,) = [item for item in stages[name]["deps"] if item.startswith("src/")]
        assert (ROOT / own).is_file()


def test_parameters_of_a_stage_are_all_and_only_what_its_slice_holds():
    # Ingest is left out: of a folder's ingest `synth` is no part, of the world's it is.
    plain = load_config("micro")
    for name, stage in STAGES.items():
        keys = dvc_file.parameter_keys(name, stage)
        changed = {key for key in SoundstageConfig.model_fields if _slice_changes(stage, plain, key)}
        assert changed <= set(keys), f"{name} reads {changed - set(keys)} unknown to DVC"


def _slice_changes(stage, plain: SoundstageConfig, key: str) -> bool:
    value = getattr(plain, key)
    if key == "preset":
        other: object = "other"
    elif key == "trial":
        other = not value
    else:
        other = value.model_copy(update={next(iter(type(value).model_fields)): "changed"})
    return stage.slice_of(plain) != stage.slice_of(plain.model_copy(update={key: other}))
