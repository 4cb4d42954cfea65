"""What the front doors share: names, events, settings told by the environment, results found without their code."""

from __future__ import annotations

import json

import pytest

from soundstage import catalog, front
from soundstage.catalog import STAGES, run_stage
from soundstage.config import load_config
from soundstage.config.tree import TrackingConfig
from soundstage.errors import DataError
from soundstage.stages import Execution, Workspace
from soundstage.stages.execute import NullObserver, Outcome, execute


def _made(workspace: Workspace) -> Execution:
    """A result of `split`, made by a function that writes one line."""

    def function(config, inputs, work):
        (work.out / "result.txt").write_text("made")
        return Outcome(counts={"clips": 3}, metrics={"share": 0.123456}, notes={"why": "a test", "long": "two\nlines"})

    slice_ = STAGES["split"].slice_of(load_config("micro"))
    return execute("split", function, slice_, {}, workspace, code_version=STAGES["split"].code_version())


@pytest.mark.parametrize(
    ("stage", "command"),
    [
        ("score", "soundstage score"),
        ("validate-clips", "soundstage validate clips"),
        ("pretrain", "soundstage train pretrain"),
    ],
)
def test_command_of_a_stage(stage, command):
    assert front.cli_command(stage) == command


def test_every_stages_command_exists():
    from typer.main import get_command

    from soundstage import cli

    root = get_command(cli.build())
    for stage in STAGES:
        name, *rest = front.cli_command(stage).split()[1:]
        command = root.commands[name]
        assert rest in ([], ["clips"], ["signals"], ["selection"], ["shards"]) or rest[0] in command.commands


@pytest.mark.parametrize(
    "tracking",
    [
        TrackingConfig(),
        TrackingConfig(uri="http://mlflow:5000", experiment="mine", system_metrics=False),
    ],
    ids=["default", "server"],
)
def test_tracking_settings_survive_the_environment(tracking, monkeypatch):
    for name, value in front.tracking_environment(tracking).items():
        monkeypatch.setenv(name, value)
    assert front.tracking_from_environment() == tracking


def test_a_result_that_exists_is_found_without_importing_its_code(tmp_path, monkeypatch):
    workspace = Workspace.open(tmp_path)
    made = _made(workspace)

    def refuse(path: str) -> object:
        raise AssertionError(f"{path} was imported")

    monkeypatch.setattr(catalog, "load_attribute", refuse)
    slice_ = STAGES["split"].slice_of(load_config("micro"))
    found = run_stage("split", slice_, {}, workspace, observer=NullObserver())
    assert found.skipped
    assert found.record == made.record
    with pytest.raises(AssertionError, match=r"soundstage\.data\.split:run was imported"):
        run_stage("split", slice_, {}, workspace, observer=NullObserver(), fresh=True)


def test_events_tell_digest_content_and_whether_it_ran(tmp_path, monkeypatch):
    monkeypatch.setenv(front.RUN_DIR, str(tmp_path))
    workspace = Workspace.open(tmp_path / "workspace")
    made = _made(workspace)
    slice_ = STAGES["split"].slice_of(load_config("micro"))
    front.run_observed("split", slice_, {}, workspace, None)
    started, finished = front.read_events(tmp_path)
    assert started == {"event": "started", "stage": "split"}
    assert finished == {
        "event": "finished",
        "stage": "split",
        "digest": made.record.digest,
        "content": made.record.content,
        "skipped": True,
        "seconds": pytest.approx(made.seconds, abs=1e-3),
        "run_id": None,
    }


def test_description_says_how_and_what(tmp_path):
    text = front.describe(_made(Workspace.open(tmp_path)))
    assert text.splitlines()[0].startswith("split: ran in ")
    assert "clips 3, share 0.1235" in text
    assert "why: a test" in text
    assert "two" not in text


def test_missing_input_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(DataError, match="run `soundstage validate clips` first"):
        front.current_record(Workspace.open(tmp_path), "validate-clips")


def test_trial_is_not_held_to_its_verdict(tmp_path):
    workspace = Workspace.open(tmp_path)

    def refuse(config, inputs, work):
        verdict = {"promoted": False, "model": {"name": "m", "version": "1"}, "rules": [], "champion_after": None}
        (work.out / "verdict.json").write_text(json.dumps(verdict))
        return Outcome()

    slice_ = STAGES["promote"].slice_of(load_config("micro"))
    record = execute("promote", refuse, slice_, {}, workspace, code_version="c").record
    front.require_verdict(workspace, record, trial=True)
    with pytest.raises(Exception, match="m version 1 is not promoted"):
        front.require_verdict(workspace, record, trial=False)
