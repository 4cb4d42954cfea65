"""From labels to a configuration file that the pipeline takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from soundstage import cli
from soundstage.config import load_config
from soundstage.curation.review import append_reviews
from soundstage.data.records import CLIPS, SIGNALS, TRUTH, write_table
from soundstage.stages import Workspace
from tests.unit.curation.records import clip_id, clip_row, put, review_row, signals_row, truth_row

COUNT = 40


@pytest.fixture(scope="module")
def app() -> Any:
    return cli.build()


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    """Forty clips; the even ones are good and correlate by 0.11 better than the odd one before."""
    workspace = Workspace.open(tmp_path / "workspace")
    clips = [clip_row(n) for n in range(COUNT)]
    signals = [signals_row(n, av_correlation=n / 50 + 0.11 * (n % 2 == 0)) for n in range(COUNT)]
    truth = [truth_row(n, "none" if n % 2 == 0 else "swapped") for n in range(COUNT)]
    put(workspace, "ingest", {"truth.parquet": lambda p: write_table(p, TRUTH, truth, ["source_uri"])})
    put(workspace, "split", {"clips.parquet": lambda p: write_table(p, CLIPS, clips, ["clip_id"])})
    put(workspace, "score", {"signals.parquet": lambda p: write_table(p, SIGNALS, signals, ["clip_id"])})
    return workspace


def _run(app: Any, place: Workspace, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["calibrate", *arguments, "--preset", "micro", "--workspace", str(place.root)])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.output


def test_labels_of_three_kinds_give_the_same_threshold(app: Any, place: Workspace, tmp_path: Path) -> None:
    kinds = {n: "keep" if n % 2 == 0 else "drop" for n in range(COUNT)}
    table = tmp_path / "labels.csv"
    table.write_text("clip_id,verdict\n" + "".join(f"{clip_id(n)},{kind}\n" for n, kind in kinds.items()))
    append_reviews(place, [review_row(n, kind) for n, kind in kinds.items()])
    found = {}
    for labels in ("reviews", "truth", str(table)):
        out = tmp_path / f"out {len(found)}"
        said = _run(app, place, "--labels", labels, "--precision", "0.6", "--out", str(out))
        assert (out / "calibration.png").read_bytes().startswith(b"\x89PNG")
        found[labels] = (out / "thresholds.yaml").read_text()
        result = json.loads((out / "calibration.json").read_text())
        (curve,) = result["scores"]
        assert (result["interval"], curve["used"], len(curve["points"])) == ("Wilson score, 95 %", COUNT, COUNT)
        assert curve["chosen"]["precision"] >= 0.6
        threshold = curve["chosen"]["threshold"]
        assert f"--set select.min_sync_correlation={threshold!r}" in said
        assert load_config("micro", out / "thresholds.yaml").select.min_sync_correlation == threshold
    assert len(set(found.values())) == 1


def test_running_again_gives_the_same_bytes(app: Any, place: Workspace) -> None:
    files = []
    for _ in range(2):
        _run(app, place, "--labels", "truth", "--precision", "0.6")
        files.append({path.name: path.read_bytes() for path in (place.root / "calibration").iterdir()})
    assert files[0] == files[1]
    assert set(files[0]) == {"calibration.json", "calibration.png", "thresholds.yaml"}


def test_a_precision_out_of_reach_is_an_error_with_the_best_there_is(app: Any, place: Workspace) -> None:
    said = _run(app, place, "--labels", "truth", "--precision", "0.9", "--bound", "lower", code=4)
    assert "no threshold of av_correlation reaches precision 0.9 by its lower" in said
    assert "not reached; best" in said


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 4, "0 good and 0 bad clips"),
        (["--labels", "absent.csv"], 4, "absent.csv cannot be read"),
        (["--labels", "truth", "--score", "sync_score"], 4, "40 without sync_score"),
        (["--labels", "truth", "--score", "synk"], 2, "--score synk is no numeric signal"),
    ],
    ids=["nobody reviewed", "no file", "never measured", "no signal"],
)
def test_refusals(app: Any, place: Workspace, arguments: list[str], code: int, message: str) -> None:
    assert message in " ".join(_run(app, place, *arguments, code=code).split())
