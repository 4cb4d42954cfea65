"""The whole pipeline through kfp's local runner: what it leaves, what reruns, how it stops. The tests run in order."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess

import psutil
import pyarrow.parquet as pq
import pytest

from soundstage.catalog import STAGES
from soundstage.config import load_config
from soundstage.data.records import CLIPS, read_table, write_table
from soundstage.media.decode import decode_clip
from soundstage.media.frames import SHOWN_PIXELS
from soundstage.stages.record import StageRecord, hash_outputs
from soundstage.synth.plan import planted_counts
from soundstage.tracking.door import open_place

from .conftest import SOUNDSTAGE, Demo, Place, environment


def _runs(place: Place) -> list[tuple[str, str]]:
    """Name and status of the tracking runs, newest first."""
    opened = open_place(place.workspace, load_config("micro").tracking)
    runs = opened.client.search_runs([opened.experiment_id], order_by=["attributes.start_time DESC"])
    return [(run.info.run_name, run.info.status) for run in runs]


def test_every_stage_ran_and_is_tracked(demo: Demo):
    assert demo.summary["ran"] == list(STAGES)
    assert set(demo.summary["seconds"]) == set(STAGES)
    runs = _runs(demo.place)
    assert {status for _, status in runs} == {"FINISHED"}
    assert {name for name, _ in runs} == {demo.summary["run"], *STAGES}


def test_every_source_is_accounted_for(demo: Demo):
    clips = demo.summary["clips"]
    world = load_config("micro").synth
    assert clips["sources"] == world.clips + sum(planted_counts(world).values())
    counts = demo.place.workspace.current("ingest").counts
    assert counts["sources_kept"] + sum(clips["rejects"].values()) == clips["sources"]
    funnel = demo.summary["selection"]
    assert sum(funnel["kept"].values()) + sum(item["count"] for item in funnel["dropped"].values()) == clips["clips"]


def test_summary_names_metrics_model_and_files_that_exist(demo: Demo):
    summary = demo.summary
    for condition in ("true", "swapped", "late"):
        value = summary["metrics"]["motion_corr"][condition]
        assert value["low"] <= value["mean"] <= value["high"]
    assert summary["promoted"]
    assert summary["model"]["name"] == "soundstage-micro"
    assert summary["model"]["aliases"] == ["candidate", "champion"]
    root = demo.place.root
    for name in ("summary.json", "report.html", "animation.mp4"):
        assert (root / name).stat().st_size > 0
    for path in summary["paths"].values():
        assert (root / path).exists()
    assert "unchanged" not in demo.output


def test_animation_has_the_models_length_and_the_sound(demo: Demo):
    window = load_config("micro").window
    clip = decode_clip(demo.place.root / "animation.mp4")
    shown = SHOWN_PIXELS // window.size * window.size  # small pictures are enlarged by whole pixels
    assert clip.frames.shape == (window.num_frames, shown, shown, 3)
    assert clip.fps == window.fps
    assert abs(clip.waveform).max() > 0.01


def test_nothing_is_left_behind(demo: Demo):
    hidden = [path for path in (demo.place.root / "payloads").rglob(".*") if path.suffix in (".partial", ".scratch")]
    assert hidden == []


def test_rerun_skips_all_but_registration_and_judgement(demo: Demo):
    output = demo.place.run("pipeline", "run")
    assert demo.place.ran() == ["register", "promote"]
    assert output.count("unchanged: made by an earlier run") == len(STAGES) - 2
    again = demo.place.summary()
    assert (again["model"], again["metrics"]) == (demo.summary["model"], demo.summary["metrics"])


def test_another_evaluation_seed_reruns_evaluation_and_later_only(demo: Demo):
    demo.place.run("pipeline", "run", "--set", "evaluate.seed=1")
    assert demo.place.ran() == ["evaluate", "register", "promote"]


def test_refusal_exits_3_and_promotes_nothing(demo: Demo):
    output = demo.place.run("promote", "--set", "promote.min_true=0.999", code=3)
    assert "min_true" in output
    assert "needs at least 0.999" in output
    verdict = json.loads((demo.place.workspace.manifest("promote") / "verdict.json").read_text())
    assert not verdict["promoted"]
    assert verdict["champion_before"], "an earlier run has promoted one"
    assert verdict["champion_after"] == verdict["champion_before"], "the champion must stay"


def test_trial_is_judged_never_promoted_and_makes_a_deleted_result_again(demo: Demo):
    before = demo.records["select"]
    shutil.rmtree(demo.place.root / before.payload)
    # No training of micro takes more than 100 steps, so the cap makes a trial and nothing else.
    demo.place.run("pipeline", "run", "--max-steps", "100")
    assert demo.place.ran() == ["select", "register", "promote"]
    assert demo.place.workspace.current("select") == before
    assert not demo.place.summary()["promoted"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_cancelled_run_ends_its_processes_and_says_killed(demo: Demo, number: signal.Signals):
    command = [SOUNDSTAGE, "pipeline", "run", "--preset", "micro", "--workspace", demo.place.root]
    command += ["--set", f"evaluate.seed={100 + number}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment())
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("== evaluate"):
            break
    family = psutil.Process(process.pid).children(recursive=True)
    assert family, "".join(lines)
    process.send_signal(number)
    lines.append(process.communicate(timeout=120)[0])
    assert process.returncode == 130, "".join(lines)
    assert [child for child in family if child.is_running() and child.status() != psutil.STATUS_ZOMBIE] == []
    runs = dict(_runs(demo.place))
    assert runs[max(path.name for path in demo.place.workspace.runs.iterdir())] == "KILLED"
    assert "RUNNING" not in runs.values()


def test_manifests_hold_what_the_records_say(demo: Demo):
    for stage in STAGES:
        folder = demo.place.workspace.manifest(stage)
        record = StageRecord.load(folder / "record.json")
        assert record.stage == stage
        published = hash_outputs(folder)
        published.pop("record.json")
        assert published == record.outputs
    clips = pq.read_table(demo.place.workspace.manifest("split") / "clips.parquet")
    assert clips.num_rows == demo.summary["clips"]["clips"]
    events = [json.loads(line) for path in demo.place.root.glob("runs/*/events.jsonl") for line in path.open()]
    assert {event["event"] for event in events} == {"started", "finished"}


def test_corrupt_row_stops_the_pipeline_with_suite_and_clip(demo: Demo):
    workspace = demo.place.workspace
    record = workspace.current("split")
    payload = workspace.resolve(record.payload)
    rows = read_table(payload / "clips.parquet", CLIPS)
    victim = rows[0] | {"duration_us": -5}
    write_table(payload / "clips.parquet", CLIPS, [victim, *rows[1:]], sort_by=["clip_id"])
    _rewrite_record(payload, record)
    output = demo.place.run("pipeline", "run", code=5)
    assert "stage validate-clips failed" in output
    assert victim["clip_id"] in output
    assert "duration_us" in output
    assert "== score" not in output, "what depends on the judged record must not start"
    run_dirs = sorted(workspace.runs.iterdir())
    assert dict(_runs(demo.place))[run_dirs[-1].name] == "FAILED"
    assert list((demo.place.root).rglob("data_docs/**/*.html")), "the report of the failed suite must stay"


def _rewrite_record(payload, record: StageRecord) -> None:
    outputs = {name: file for name, file in hash_outputs(payload).items() if name in record.outputs}
    record.model_copy(update={"outputs": outputs}).save(payload / "record.json")
