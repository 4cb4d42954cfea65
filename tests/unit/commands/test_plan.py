"""`soundstage plan`: JSON, a page of figures, and exit code 2 with what would fit."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from typer.testing import CliRunner

from soundstage import cli
from soundstage.planning.calibration import load_calibration


def _plan(*arguments: str):
    return CliRunner().invoke(cli.build(), ["plan", "--preset", "micro", "--clips", "50", "--gpus", "1", *arguments])


def test_json_is_a_plan() -> None:
    done = _plan("--json", "--gpu", "h200")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["fits"], report["gpu"], report["clips"]) == (True, "h200", 50)


def test_what_does_not_fit_is_refused_by_how_much_and_with_what_would(tmp_path: Path) -> None:
    made = load_calibration().model_dump()
    made |= {"overhead_gib": 0.0, "audio_parameters": 0.0}
    # Between what the stages need as they are and the least that they can do with.
    made["gpus"]["h100"]["memory_gb"] = 0.0009
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(made))
    done = _plan("--calibration", str(file))
    assert done.exit_code == 2
    assert "pretrain: memory of a GPU (micro_batch=4, activation_checkpointing=False, zero_stage=0)" in done.stdout
    assert "GiB too much; these fit, fastest first:\n  --set pretrain." in done.stderr
    assert "pretrain.activation_checkpointing=true" in done.stderr
