"""Components: every stage has one, and what it is told reaches the stage or is refused."""

from __future__ import annotations

import ast
import json

import pytest

from pipelines.compile import ROOT
from soundstage import front
from soundstage.catalog import STAGES
from soundstage.config import load_config
from soundstage.errors import ConfigError, DataError

MODULES = sorted((ROOT / "components").glob("*/component.py"))


def test_every_stage_has_a_component_and_each_folder_its_readme():
    named = set()
    for module in MODULES:
        assert (module.parent / "README.md").exists()
        calls = [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Call)]
        named |= {call.args[0].value for call in calls if getattr(call.func, "id", "") == "run_component"}
    assert named == set(STAGES)


def test_component_modules_import_nothing_but_kfp_at_module_level():
    for module in MODULES:
        for node in ast.parse(module.read_text()).body:
            if isinstance(node, ast.ImportFrom):
                assert node.module in ("kfp", "components.base"), f"{module}: {node.module}"
            assert not isinstance(node, ast.Import)


@pytest.fixture
def run_dir(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.setenv(front.RUN_DIR, str(folder))
    monkeypatch.setenv("SOUNDSTAGE_WORKSPACE", str(tmp_path / "workspace"))
    return folder


def test_other_code_than_the_submitters_is_refused_and_the_run_told(run_dir, tmp_path, capsys):
    text = STAGES["split"].slice_of(load_config("micro")).canonical_json()
    with pytest.raises(SystemExit) as leaving:
        front.run_component("split", text, "not-this-one", {}, str(tmp_path / "record.json"))
    (event,) = front.read_events(run_dir)
    assert (event["event"], event["stage"], event["error"]) == ("failed", "split", "ConfigError")
    assert leaving.value.code == ConfigError.exit_code
    assert "submitted from code not-this-one" in event["message"]
    assert event["message"] in capsys.readouterr().err


def test_unknown_key_in_a_slice_is_refused_with_the_near_name(run_dir, tmp_path):
    values = json.loads(STAGES["split"].slice_of(load_config("micro")).canonical_json())
    values["split"]["tset"] = 0.1
    code = STAGES["split"].code_version()
    with pytest.raises(SystemExit, match=f"^{ConfigError.exit_code}$"):
        front.run_component("split", json.dumps(values), code, {}, str(tmp_path / "record.json"))
    assert "did you mean test" in front.read_events(run_dir)[-1]["message"]


def test_missing_input_record_is_named(run_dir, tmp_path):
    text = STAGES["split"].slice_of(load_config("micro")).canonical_json()
    code = STAGES["split"].code_version()
    with pytest.raises(SystemExit, match=f"^{DataError.exit_code}$"):
        front.run_component("split", text, code, {"ingest": "nowhere.json"}, str(tmp_path / "record.json"))
    assert "nowhere.json does not exist" in front.read_events(run_dir)[-1]["message"]
