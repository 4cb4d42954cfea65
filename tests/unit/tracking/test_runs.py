from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from soundstage.config import Config, SoundstageConfig, parse
from soundstage.config.tree import TrackingConfig
from soundstage.errors import ConfigError, GateRefused
from soundstage.stages import Execution, Outcome, StageRecord, Work, Workspace, execute
from soundstage.tracking.door import Place
from soundstage.tracking.observer import PARENT_TAG, MlflowObserver, annotate_cached
from soundstage.tracking.provenance import PROCESS_TAG, flatten
from soundstage.tracking.runs import PipelineRun


class Slice(Config):
    """Configuration of the stage under test."""

    steps: int = 3
    nested: dict[str, Any] = {"rate": 0.5}  # noqa: RUF012 - pydantic copies defaults


def _work(config: Slice, inputs: Mapping[str, StageRecord], work: Work) -> Outcome:
    (work.out / "result.txt").write_text("done")
    for step in range(config.steps):
        work.tracker.log_metrics({"loss": 1.0 / (step + 1)}, step)
    work.tracker.log_artifact(work.out / "result.txt", "plots")
    return Outcome(counts={"clips": 4}, metrics={"corr": 0.7}, notes={"remark": "fine"})


def _run(
    workspace: Workspace, observer: MlflowObserver, function: Any = _work, inputs: Any = None, steps: int = 3
) -> Execution:
    config = Slice(steps=steps)
    return execute("encode", function, config, inputs or {}, workspace, code_version="c0de", observer=observer)


def _config(tracking: TrackingConfig) -> SoundstageConfig:
    return SoundstageConfig(tracking=tracking)


def _artifacts(place: Place, run_id: str, folder: str | None = None) -> set[str]:
    return {item.path for item in place.client.list_artifacts(run_id, folder)}


def test_stage_run_nests_and_holds_what_the_stage_did(
    workspace: Workspace, tracking: TrackingConfig, place: Place
) -> None:
    first = _run(workspace, MlflowObserver(workspace, tracking))
    with PipelineRun.open(workspace, _config(tracking), "r1") as parent:
        observer = MlflowObserver(workspace, tracking, parent.mlflow_run_id)
        done = _run(workspace, observer, inputs={"clips": first.record}, steps=5)
    run = place.client.get_run(done.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags[PARENT_TAG] == parent.mlflow_run_id
    assert run.data.tags["soundstage.input.clips"] == f"encode:{first.record.digest}"
    assert run.data.tags["soundstage.digest"] == done.record.digest
    assert run.data.tags["soundstage.note.remark"] == "fine"
    assert run.data.params == {"steps": "5", "nested.rate": "0.5"}
    assert run.data.metrics["count.clips"] == 4
    assert run.data.metrics["corr"] == 0.7
    assert _artifacts(place, run.info.run_id) == {"config.json", "record.json", "plots"}
    assert run.inputs.dataset_inputs[0].dataset.digest == first.record.content[:36]
    assert PARENT_TAG not in place.client.get_run(first.run_id).data.tags


def test_every_value_logged_over_steps_is_stored(workspace: Workspace, tracking: TrackingConfig, place: Place) -> None:
    done = _run(workspace, MlflowObserver(workspace, tracking), steps=1500)
    history = place.client.get_metric_history(done.run_id, "loss")
    assert {m.step: m.value for m in history} == {step: 1.0 / (step + 1) for step in range(1500)}
    assert "soundstage.lost_metrics" not in place.client.get_run(done.run_id).data.tags


def test_pipeline_run_holds_the_resolved_configuration(
    workspace: Workspace, tracking: TrackingConfig, place: Place, tmp_path: Path
) -> None:
    config = _config(tracking)
    with PipelineRun.open(workspace, config, "r2", {"kfp.run": "abc"}) as parent:
        parent.log_metrics({"minutes": 2.0})
    run = place.client.get_run(parent.mlflow_run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "r2"
    assert run.data.tags["soundstage.run_id"] == "r2"
    assert run.data.tags["kfp.run"] == "abc"
    assert run.data.params == flatten(config.model_dump(mode="json"))
    assert len(run.data.params) > 100  # more than one request takes
    path = place.client.download_artifacts(parent.mlflow_run_id, "config.yaml", str(tmp_path))
    assert parse(SoundstageConfig, yaml.safe_load(Path(path).read_text()), "the artifact") == config


def test_git_commit_of_a_checkout_is_tagged(workspace: Workspace, tracking: TrackingConfig, place: Place) -> None:
    root = Path(__file__).resolve().parents[3]
    head = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode:
        pytest.skip("the tests do not lie in a git checkout")
    with PipelineRun.open(workspace, _config(tracking), "r3") as parent:
        pass
    tags = place.client.get_run(parent.mlflow_run_id).data.tags
    assert tags["soundstage.git_commit"] == head.stdout.strip()
    assert tags["soundstage.git_dirty"] in {"true", "false"}
    assert "soundstage.workspace_git_commit" not in tags


@pytest.mark.parametrize(
    ("error", "status", "parent_status"),
    [
        (ValueError("no such clip"), "FAILED", "FAILED"),
        (KeyboardInterrupt(), "KILLED", "KILLED"),
        (SystemExit(143), "KILLED", "KILLED"),
        (GateRefused("mean 0.3 < 0.6"), "FAILED", "FINISHED"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_how_a_stage_ends_is_how_its_run_ends(
    workspace: Workspace, tracking: TrackingConfig, place: Place, error: BaseException, status: str, parent_status: str
) -> None:
    run_ids: list[str | None] = []

    def fail(config: Slice, inputs: Any, work: Work) -> Outcome:
        run_ids.append(work.tracker.run_id)
        work.tracker.log_metrics({"loss": 9.0}, 1)
        raise error

    with (
        pytest.raises(type(error)),
        PipelineRun.open(workspace, _config(tracking), "r4") as parent,
    ):
        _run(workspace, MlflowObserver(workspace, tracking, parent.mlflow_run_id), fail)
    run = place.client.get_run(str(run_ids[0]))
    assert run.info.status == status
    assert run.data.metrics == {"loss": 9.0}
    assert type(error).__name__ in run.data.tags["soundstage.error"]
    assert "error.txt" in _artifacts(place, run.info.run_id)
    assert place.client.get_run(parent.mlflow_run_id).info.status == parent_status


_STAGE_THAT_WAITS = """
    import sys, time
    from pathlib import Path
    from soundstage.config import Config, SoundstageConfig
    from soundstage.config.tree import TrackingConfig
    from soundstage.stages import Workspace, execute
    from soundstage.tracking.runs import MlflowObserver, PipelineRun

    def wait(config, inputs, work):
        print("started", work.tracker.run_id, flush=True)
        time.sleep(120)

    workspace = Workspace.open(sys.argv[1])
    tracking = TrackingConfig(uri=sys.argv[2], experiment=sys.argv[3], system_metrics=False)
    with PipelineRun.open(workspace, SoundstageConfig(tracking=tracking), "waits") as parent:
        print("parent", parent.mlflow_run_id, flush=True)
        observer = MlflowObserver(workspace, tracking, parent.mlflow_run_id)
        execute("encode", wait, Config(), {}, workspace, code_version="c", observer=observer)
"""


def _kill_waiting_pipeline(workspace: Workspace, tracking: TrackingConfig, number: int) -> tuple[list[str], int]:
    command = [sys.executable, "-c", textwrap.dedent(_STAGE_THAT_WAITS)]
    arguments = [str(workspace.root), str(tracking.uri), tracking.experiment]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        run_ids = [process.stdout.readline().split()[1] for _ in range(2)]
        os.kill(process.pid, number)
        return run_ids, process.wait(timeout=60)


def test_terminated_process_leaves_killed_runs(workspace: Workspace, tracking: TrackingConfig, place: Place) -> None:
    run_ids, code = _kill_waiting_pipeline(workspace, tracking, signal.SIGTERM)
    assert code == 143
    assert [place.client.get_run(run_id).info.status for run_id in run_ids] == ["KILLED", "KILLED"]


def test_next_pipeline_closes_what_a_killed_process_left(
    workspace: Workspace, tracking: TrackingConfig, place: Place
) -> None:
    run_ids, _ = _kill_waiting_pipeline(workspace, tracking, signal.SIGKILL)
    assert [place.client.get_run(run_id).info.status for run_id in run_ids] == ["RUNNING", "RUNNING"]
    with PipelineRun.open(workspace, _config(tracking), "r5") as living:
        with PipelineRun.open(workspace, _config(tracking), "r6"):
            pass
        assert place.client.get_run(living.mlflow_run_id).info.status == "RUNNING"
    assert [place.client.get_run(run_id).info.status for run_id in run_ids] == ["KILLED", "KILLED"]


def test_pipeline_that_ends_ends_the_runs_of_dead_stages(
    workspace: Workspace, tracking: TrackingConfig, place: Place
) -> None:
    with (  # noqa: PT012 - the block is the pipeline
        pytest.raises(RuntimeError),
        PipelineRun.open(workspace, _config(tracking), "r7") as parent,
    ):
        dead = place.client.create_run(place.experiment_id, tags={PARENT_TAG: parent.mlflow_run_id}).info.run_id
        raise RuntimeError("a step failed")
    assert place.client.get_run(dead).info.status == "FAILED"


def test_cached_stage_links_the_earlier_run(workspace: Workspace, tracking: TrackingConfig, place: Place) -> None:
    first = _run(workspace, MlflowObserver(workspace, tracking))
    with PipelineRun.open(workspace, _config(tracking), "r8") as parent:
        again = _run(workspace, MlflowObserver(workspace, tracking, parent.mlflow_run_id))
    assert again.skipped
    run = place.client.get_run(parent.mlflow_run_id)
    assert run.data.tags["soundstage.cached.encode"] == first.run_id
    note = place.client.download_artifacts(parent.mlflow_run_id, "cached/encode.json")
    assert json.loads(Path(note).read_text())["digest"] == first.record.digest


def test_annotate_cached_links_only_stages_that_did_not_run(
    workspace: Workspace, tracking: TrackingConfig, place: Place
) -> None:
    earlier = _run(workspace, MlflowObserver(workspace, tracking))
    with PipelineRun.open(workspace, _config(tracking), "r9") as parent:
        own = _run(workspace, MlflowObserver(workspace, tracking, parent.mlflow_run_id), steps=4)
        linked = annotate_cached(workspace, tracking, parent.mlflow_run_id, [earlier.record])
        assert annotate_cached(workspace, tracking, parent.mlflow_run_id, [own.record]) == {}
    assert linked == {"encode": earlier.run_id}
    tags = place.client.get_run(parent.mlflow_run_id).data.tags
    assert tags["soundstage.cached.encode"] == earlier.run_id


def test_unreachable_place_stops_the_pipeline_at_its_start_but_no_stage(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    bad = TrackingConfig(uri="http://127.0.0.1:1")
    with pytest.raises(ConfigError, match="nothing answers"):
        PipelineRun.open(workspace, _config(bad), "r10")
    done = _run(workspace, MlflowObserver(workspace, bad))
    assert done.run_id is None
    assert (workspace.resolve(done.record.payload) / "result.txt").read_text() == "done"
    warnings = [r.getMessage() for r in caplog.records if "tracking of stage encode" in r.getMessage()]
    assert len(warnings) == 1
    assert "could not open its run" in warnings[0]


def test_place_that_fails_on_the_way_warns_once_and_the_stage_ends_well(
    workspace: Workspace, tracking: TrackingConfig, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    def work(config: Slice, inputs: Any, work: Work) -> Outcome:
        place.client.delete_run(str(work.tracker.run_id))  # MLflow refuses to write to a deleted run
        for step in range(5):
            work.tracker.log_metrics({"loss": 1.0}, step)
            work.tracker.set_tags({"a": "b"})
        return Outcome()

    done = _run(workspace, MlflowObserver(workspace, tracking), work)
    assert (workspace.resolve(done.record.payload) / "record.json").exists()
    warnings = [r for r in caplog.records if r.levelname == "WARNING" and "tracking of" in r.getMessage()]
    assert len(warnings) == 1


def test_machine_is_followed_in_runs_that_last(
    workspace: Workspace, tracking: TrackingConfig, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    run_ids: list[str | None] = []

    def wait(config: Slice, inputs: Any, work: Work) -> Outcome:
        run_ids.append(work.tracker.run_id)
        deadline = time.monotonic() + 30
        while not place.client.get_run(str(run_ids[0])).data.metrics and time.monotonic() < deadline:
            time.sleep(0.1)
        return Outcome()

    _run(workspace, MlflowObserver(workspace, tracking.model_copy(update={"system_metrics": True})), wait)
    run = place.client.get_run(str(run_ids[0]))
    assert run.data.metrics["system/system_memory_usage_megabytes"] > 0
    assert "system/cpu_utilization_percentage" in run.data.metrics
    assert run.data.tags[PROCESS_TAG].startswith(f"{os.getpid()}@")
