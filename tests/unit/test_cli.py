"""The command line as a user meets it: exit codes, messages without tracebacks, options that mean what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from soundstage import cli
from soundstage.config import load_config
from soundstage.data.records import CLIPS, write_table
from soundstage.errors import ContractError, GateRefused, TrainingError
from soundstage.stages import Workspace

from .curation.records import clip_row, put

SOUNDSTAGE = Path(sys.executable).with_name("soundstage")


@pytest.fixture(scope="module")
def app():
    return cli.build()


def _run(app, *arguments: str):
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["score", "--preset", "mcro"], 2, "did you mean micro?"),
        (["score", "--preset", "micro", "--set", "score.wrkers=2"], 2, "did you mean workers?"),
        (["score", "--preset", "micro", "--set", "score.workers"], 2, "not of the form a.b=value"),
        (["score", "--config", "absent.yaml"], 2, "absent.yaml cannot be read"),
        (["score", "--preset", "micro"], 4, "run `soundstage split` first"),
        (["evaluate", "--preset", "micro"], 4, "run `soundstage split` first"),
        (["train", "pretrain", "--preset", "micro"], 4, "run `soundstage encode` first"),
        (["train", "scorer", "--role", "judge", "--preset", "micro"], 4, "run `soundstage split` first"),
        (["train", "scorer", "--preset", "micro"], 2, "--role"),
        (["train", "scorer", "--role", "referee"], 2, "referee"),
        (["train", "scorer", "--role", "judge", "--register-as", "a/b"], 2, "is no model name"),
        (
            ["train", "scorer", "--role", "judge", "--preset", "micro", "--register-as", "soundstage-micro"],
            2,
            "is the name of the models that animate",
        ),
        (["train", "scorer", "--role", "judge", "--set", "judge.crop_sec=0.7"], 2, "too few to shift picture"),
        (["validate", "shards", "--preset", "micro"], 4, "run `soundstage select` first"),
        (["ingest", "--preset", "micro", "--source", "nowhere"], 4, "does not exist"),
        (["animate", "--image", "absent.png", "--audio", "absent.wav"], 4, "--image absent.png cannot be read"),
        (["pipeline", "run", "--preset", "micro", "--max-steps", "0"], 2, "--max-steps"),
        (["validate", "clip"], 2, "clip"),
        (["nonsense"], 2, "nonsense"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refusals_have_documented_codes_and_no_traceback(app, arguments, code, message):
    result = _run(app, *arguments)
    assert result.exit_code == code, result.output
    assert message in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("error", [ContractError, GateRefused, TrainingError], ids=lambda kind: kind.__name__)
def test_each_error_class_has_its_code_in_help(app, error, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise error("told to the user")

    monkeypatch.setattr("soundstage.front.run_current", refuse)
    result = _run(app, "score", "--preset", "micro")
    assert result.exit_code == error.exit_code
    assert "error: told to the user" in result.output
    assert f"{error.exit_code} " in " ".join(_run(app, "--help").output.split())


def test_interrupt_exits_130(app, monkeypatch):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("soundstage.front.run_current", interrupt)
    assert _run(app, "score", "--preset", "micro").exit_code == 130


def test_help_imports_nothing_heavy():
    heavy = ("torch", "mlflow", "great_expectations", "kfp", "deepspeed", "diffusers", "dvc", "numpy", "pandas")
    code = (
        "import sys; from soundstage import cli; app = cli.build(); "
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_installed_command_lists_its_commands():
    done = subprocess.run([SOUNDSTAGE, "--help"], capture_output=True, text=True, check=True)
    for name in (
        "init",
        "demo",
        "synth",
        "ingest",
        "split",
        "validate",
        "score",
        "review",
        "select",
        "encode",
        "train",
    ):
        assert name in done.stdout
    for name in ("evaluate", "register", "promote", "animate", "pipeline", "doctor"):
        assert name in done.stdout


def test_workspace_file_is_the_default_configuration(app, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("soundstage.front.run_current", lambda stage, tree, place, fresh: seen.append((tree, place)))
    (tmp_path / "soundstage.yaml").write_text("preset: micro\nsplit: {test: 0.5}\n")
    other = tmp_path / "other.yaml"
    other.write_text("split: {test: 0.4}\n")
    here = ["ingest", "--workspace", str(tmp_path)]
    for extra in ([], ["--set", "split.test=0.3"], ["--preset", "tiny"], ["--config", str(other)]):
        assert _run(app, *here, *extra).exit_code == 0
    assert [tree.split.test for tree, _ in seen] == [0.5, 0.3, load_config("tiny").split.test, 0.4]
    assert [tree.preset for tree, _ in seen] == ["micro", "micro", "tiny", "tiny"]
    assert {place.root for _, place in seen} == {tmp_path}


def test_real_source_has_no_simulated_reviewer_unless_asked(app, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("soundstage.front.run_current", lambda stage, tree, place, fresh: seen.append(tree))
    for extra in (
        ["--source", "synth:"],
        ["--source", "films"],
        ["--source", "films", "--set", "review.reviewer=simulated"],
    ):
        assert _run(app, "ingest", "--preset", "micro", *extra).exit_code == 0
    assert [tree.review.reviewer for tree in seen] == ["simulated", "none", "simulated"]
    assert seen[1].ingest.source == str(Path.cwd() / "films")


def test_max_steps_caps_every_training_and_makes_a_trial(app, monkeypatch):
    seen = []

    class StoppedError(Exception):
        pass

    def stop(tree, place, no_cache):
        seen.append(tree)
        raise StoppedError

    monkeypatch.setattr("pipelines.driver.run_pipeline", stop)
    result = _run(app, "pipeline", "run", "--preset", "micro", "--max-steps", "5")
    assert isinstance(result.exception, StoppedError)
    plain = load_config("micro")
    steps = [
        (getattr(seen[0], name).steps, getattr(plain, name).steps) for name in ("backbone", "pretrain", "finetune")
    ]
    assert steps == [(5, 6), (5, 6), (4, 4)]
    assert seen[0].trial
    assert (
        seen[0].model_copy(
            update={"trial": False, **{n: getattr(plain, n) for n in ("backbone", "pretrain", "finetune")}}
        )
        == plain
    )


def test_stage_command_runs_then_finds_its_result(app, tmp_path):
    options = [
        "--preset",
        "micro",
        "--workspace",
        str(tmp_path),
        "--set",
        "synth.clips=3",
        "--set",
        "synth.defects_each=0",
    ]
    options += ["--set", "tracking.system_metrics=false"]
    first = _run(app, "ingest", *options)
    assert first.exit_code == 0, first.output
    assert "ingest: ran in" in first.output
    assert "sources 3" in first.output
    again = _run(app, "ingest", *options)
    assert "unchanged: made by an earlier run" in again.output
    assert "ran in" in _run(app, "ingest", *options, "--fresh").output
    assert Workspace.open(tmp_path).current("ingest").counts["clips"] == 3


def test_scorers_are_trained_by_role_on_the_current_clips(app, tmp_path):
    """Three clips of the judge's split are too few to train on: that is said, and there is nothing to register."""
    workspace = Workspace.open(tmp_path)
    rows = [clip_row(number, split="judge") for number in range(3)]
    put(workspace, "split", {"clips.parquet": lambda path: write_table(path, CLIPS, rows, ["clip_id"])})
    command = ["train", "scorer", "--role", "judge", "--preset", "micro", "--workspace", str(tmp_path)]
    for setting in ("judge.min_clips=9", "judge.held_out_share=0", "tracking.system_metrics=false"):
        command += ["--set", setting]
    first = _run(app, *command)
    assert first.exit_code == 0, first.output
    assert "judge: ran in" in first.output
    assert "none trained: 3 clips of split judge can be trained on" in " ".join(first.output.split())
    assert workspace.current("judge").config["scorer"]["seed"] == load_config("micro").judge.seed
    again = _run(app, *command, "--register-as", "sync")
    assert again.exit_code == 4
    assert "judge: unchanged" in again.output
    assert "stage judge holds no scorer to register" in " ".join(again.output.split())


def test_synth_writes_a_world_once(app, tmp_path):
    out = tmp_path / "world"
    options = ["--preset", "micro", "--set", "synth.clips=2", "--set", "synth.defects_each=0"]
    done = _run(app, "synth", "--out", str(out), *options)
    assert done.exit_code == 0, done.output
    assert "synth: 2 files" in done.output
    assert sorted(path.name for path in out.iterdir()) == ["sources.csv", "truth.parquet", "videos"]
    assert _run(app, "synth", "--out", str(out), *options).exit_code == 2
    assert not Path("workspace").exists(), "reading the configuration must not make a workspace"


def test_compile_writes_where_told_and_check_sees_a_difference(app, tmp_path, monkeypatch):
    out = tmp_path / "pipeline.yaml"
    assert _run(app, "pipeline", "compile", "--out", str(out)).exit_code == 0
    assert "soundstage-training" in out.read_text()
    monkeypatch.setattr("pipelines.compile.ROOT", tmp_path)
    stale = _run(app, "pipeline", "compile", "--check")
    assert stale.exit_code == 2
    assert "run `make compile`" in stale.output
    assert not (tmp_path / "dvc.yaml").exists()
    monkeypatch.setattr("pipelines.compile.PIPELINE", "compiled.yaml")
    assert _run(app, "pipeline", "compile").exit_code == 0
    assert _run(app, "pipeline", "compile", "--check").exit_code == 0


def test_doctor_names_what_is_missing(app, tmp_path):
    fine = _run(app, "doctor", "--workspace", str(tmp_path / "new"))
    assert fine.exit_code == 0, fine.output
    assert not (tmp_path / "new").exists()
    environment = os.environ | {"PATH": str(tmp_path)}
    blind = subprocess.run(
        [SOUNDSTAGE, "doctor"], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert blind.returncode == 1
    assert "missing: git" in blind.stderr
    assert "install git" in blind.stdout


def test_code_versions_are_of_every_stage(app, tmp_path):
    from soundstage.catalog import STAGES

    assert _run(app, "code-versions", str(tmp_path / "code.json")).exit_code == 0
    assert set(json.loads((tmp_path / "code.json").read_text())) == set(STAGES)
