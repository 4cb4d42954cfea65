"""A stage runs once for one piece of work, appears whole, and is found again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from soundstage.config import Config
from soundstage.errors import DataError
from soundstage.stages import (
    Execution,
    Inputs,
    NullTracker,
    Outcome,
    StageRecord,
    Tracker,
    Work,
    Workspace,
    execute,
)


class Slice(Config):
    text: str = "hello"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "workspace")


def write(config: Slice, inputs: Inputs, work: Work) -> Outcome:
    """Writes its text and leaves a line in the workspace for every time that it truly ran."""
    with (work.workspace.root / "runs.log").open("a") as log:
        log.write("ran\n")
    (work.out / "deep").mkdir()
    (work.out / "deep" / "text.txt").write_text(config.text)
    return Outcome(counts={"letters": len(config.text)}, notes={"inputs": ",".join(inputs)})


def constant(config: Slice, inputs: Inputs, work: Work) -> Outcome:
    """Reads its config and writes the same whatever it says."""
    (work.out / "answer.txt").write_text("42")
    return Outcome()


def run(workspace: Workspace, stage: str = "write", **changes: Any) -> Execution:
    settings: dict[str, Any] = {"function": write, "config": Slice(), "inputs": {}, "code_version": "v1"} | changes
    function, config, inputs = settings.pop("function"), settings.pop("config"), settings.pop("inputs")
    return execute(stage, function, config, inputs, workspace, **settings)


def times_run(workspace: Workspace) -> int:
    return len((workspace.root / "runs.log").read_text().splitlines())


def test_a_finished_stage_is_found_again(workspace: Workspace) -> None:
    first, second = run(workspace), run(workspace)
    assert (first.skipped, second.skipped) == (False, True)
    assert second.record == first.record
    assert second.seconds == pytest.approx(first.seconds, abs=1e-3)
    assert times_run(workspace) == 1
    assert workspace.output(second.record, "deep/text.txt").read_text() == "hello"
    assert workspace.current("write") == first.record
    assert (workspace.manifest("write") / "deep" / "text.txt").read_text() == "hello"


def test_the_record_tells_all_and_no_time(workspace: Workspace) -> None:
    upstream = run(workspace, "upstream").record
    record = run(workspace, inputs={"up": upstream}, external_digest="e").record
    assert record.config == {"text": "hello"}
    assert record.counts == {"letters": 5}
    assert record.notes == {"inputs": "up"}
    assert record.inputs["up"].digest == upstream.digest
    assert (record.code_version, record.external_digest) == ("v1", "e")
    assert list(record.outputs) == ["deep/text.txt"]
    elsewhere = Workspace.open(workspace.root.parent / "elsewhere")
    upstream = run(elsewhere, "upstream").record
    assert run(elsewhere, inputs={"up": upstream}, external_digest="e").record == record


CHANGES: dict[str, Mapping[str, Any]] = {
    "config": {"config": Slice(text="bye")},
    "code": {"code_version": "v2"},
    "external": {"external_digest": "ledger"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_matters_changes_the_digest(workspace: Workspace, change: Mapping[str, Any]) -> None:
    first, second = run(workspace), run(workspace, **change)
    assert not second.skipped
    assert second.record.digest != first.record.digest
    assert workspace.current("write") == second.record
    assert run(workspace).skipped
    assert workspace.current("write") == first.record


def test_other_input_content_changes_the_digest(workspace: Workspace) -> None:
    one = run(workspace, "up").record
    two = run(workspace, "up", config=Slice(text="bye")).record
    assert run(workspace, inputs={"up": one}).record.digest != run(workspace, inputs={"up": two}).record.digest


def test_equal_content_upstream_stops_the_wave(workspace: Workspace) -> None:
    one = run(workspace, "up", function=constant).record
    run(workspace, inputs={"up": one})
    two = run(workspace, "up", function=constant, config=Slice(text="changed, to no effect"))
    assert not two.skipped
    assert two.record.digest != one.digest
    assert two.record.content == one.content
    assert run(workspace, inputs={"up": two.record}).skipped


def test_an_uncached_stage_runs_again_and_replaces_its_result(workspace: Workspace) -> None:
    first, second = run(workspace, cacheable=False), run(workspace, cacheable=False)
    assert (first.skipped, second.skipped) == (False, False)
    assert times_run(workspace) == 2
    assert workspace.output(second.record, "deep/text.txt").read_text() == "hello"


def stumble(config: Slice, inputs: Inputs, work: Work) -> Outcome:
    """Fails at its first attempt, half way; then goes on from what it kept aside."""
    (work.out / "half.txt").write_text("half")
    if not (work.scratch / "attempts").exists():
        (work.scratch / "attempts").write_text("1")
        raise KeyboardInterrupt
    (work.out / "half.txt").write_text("whole")
    return Outcome(notes={"resumed_from": (work.scratch / "attempts").read_text()})


def test_a_failed_stage_leaves_no_result_and_keeps_its_scratch(workspace: Workspace) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(workspace, function=stumble)
    visible = [path for path in (workspace.root / "payloads" / "write").iterdir() if not path.name.startswith(".")]
    assert visible == []
    with pytest.raises(DataError, match="stage 'write' has no result"):
        workspace.current("write")
    done = run(workspace, function=stumble)
    assert done.record.notes == {"resumed_from": "1"}
    assert workspace.output(done.record, "half.txt").read_text() == "whole"
    left = {path.name for path in (workspace.root / "payloads" / "write").iterdir()}
    assert left == {done.record.digest[:24], f".{done.record.digest[:24]}.lock", ".publish.lock"}


def test_leftovers_of_a_killed_run_do_not_enter_the_result(workspace: Workspace) -> None:
    digest = run(workspace).record.digest
    partial = workspace.payload("write", digest).with_name(f".{digest[:24]}.partial")
    partial.mkdir()
    (partial / "stale.txt").write_text("of a killed run")
    record = run(workspace, cacheable=False).record
    assert list(record.outputs) == ["deep/text.txt"]
    assert not (workspace.resolve(record.payload) / "stale.txt").exists()


class Recorder:
    """An observer that remembers, in order, what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def started(self, stage: str, config: Config, inputs: Mapping[str, StageRecord]) -> Tracker:
        self.told.append(f"started {stage}")
        tracker = NullTracker()
        tracker.run_id = "run-7"
        return tracker

    def finished(self, tracker: Tracker, record: StageRecord, seconds: float) -> None:
        self.told.append(f"finished {record.stage} of {tracker.run_id}")

    def failed(self, tracker: Tracker, stage: str, error: BaseException) -> None:
        self.told.append(f"failed {stage}: {type(error).__name__}")

    def skipped(self, record: StageRecord, run: Mapping[str, Any]) -> None:
        self.told.append(f"skipped {record.stage}, made by {run['run_id']}")


def test_an_observer_hears_of_every_end(workspace: Workspace) -> None:
    observer = Recorder()
    with pytest.raises(KeyboardInterrupt):
        run(workspace, function=stumble, observer=observer)
    run(workspace, function=stumble, observer=observer)
    assert run(workspace, function=stumble, observer=observer).run_id == "run-7"
    assert observer.told == [
        "started write",
        "failed write: KeyboardInterrupt",
        "started write",
        "finished write of run-7",
        "skipped write, made by run-7",
    ]


def slow(config: Slice, inputs: Inputs, work: Work) -> Outcome:
    """Takes long enough for a second process to come along."""
    outcome = write(config, inputs, work)
    time.sleep(0.5)
    return outcome


def _run_slow(root: Path, config: Slice) -> None:
    execute("write", slow, config, {}, Workspace(root), code_version="v1")
    os._exit(0)


def in_processes(target: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> list[int | None]:
    """Exit codes of one process for each tuple of arguments, all at once."""
    context = get_context("fork")
    workers = [context.Process(target=target, args=chosen) for chosen in arguments]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return [worker.exitcode for worker in workers]


def test_processes_that_want_the_same_compute_it_once(workspace: Workspace) -> None:
    assert in_processes(_run_slow, [(workspace.root, Slice())] * 3) == [0, 0, 0]
    assert times_run(workspace) == 1


def _publish_often(workspace: Workspace, records: list[StageRecord]) -> None:
    for record in records * 40:
        workspace.publish(record)
    os._exit(0)


def test_processes_that_publish_at_once_do_not_disturb_each_other(workspace: Workspace) -> None:
    records = [run(workspace, config=Slice(text=text)).record for text in ("one", "two")]
    orders = (records, records[::-1], records)
    assert in_processes(_publish_often, [(workspace, order) for order in orders]) == [0, 0, 0]
    current = workspace.current("write")
    assert (workspace.manifest("write") / "deep" / "text.txt").read_text() == current.config["text"]
    assert [path.name for path in workspace.manifest("write").parent.iterdir()] == ["write"]
