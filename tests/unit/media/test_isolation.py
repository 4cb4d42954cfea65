"""A task may kill, stall or bloat its process: it fails alone, and every other task is answered."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest

from soundstage.media.isolation import WorkerFailure, run_isolated


def misbehave(task: str) -> str:
    if task == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "exit":
        os._exit(3)
    if task == "stall":
        time.sleep(600)
    if task == "bloat":
        try:
            np.empty(2 * 2**30, np.uint8)
        except MemoryError:
            return "out of memory"
    if task == "raise":
        raise KeyError("our own mistake")
    return f"{task} done"


def test_each_task_is_answered_once_and_failures_stay_alone() -> None:
    tasks = ["a", "kill", "b", "stall", "exit", "c", "kill", "d"]
    found = list(run_isolated(misbehave, tasks, workers=2, timeout_sec=3.0, memory_gib=1.0))
    assert sorted(index for index, _ in found) == list(range(len(tasks)))
    answers = {tasks[index]: answer for index, answer in found}
    assert [answers[name] for name in "abcd"] == ["a done", "b done", "c done", "d done"]
    failures = {name: answers[name] for name in ("kill", "stall", "exit")}
    assert all(isinstance(failure, WorkerFailure) for failure in failures.values())
    assert {name: failure.reason for name, failure in failures.items()} == {
        "kill": "crashed",
        "stall": "timeout",
        "exit": "crashed",
    }
    assert "SIGKILL" in failures["kill"].detail
    assert "exit code 3" in failures["exit"].detail


def test_memory_is_limited_relative_to_the_start() -> None:
    assert list(run_isolated(misbehave, ["bloat"], workers=1, timeout_sec=60, memory_gib=1.0)) == [(0, "out of memory")]
    assert list(run_isolated(misbehave, ["bloat"], workers=1, timeout_sec=60, memory_gib=4.0)) == [(0, "bloat done")]


def test_a_mistake_of_ours_ends_the_run_and_names_the_task() -> None:
    with pytest.raises(RuntimeError, match=r"working on raise raised(.|\n)*our own mistake"):
        list(run_isolated(misbehave, ["raise", "a"], workers=1, timeout_sec=60, memory_gib=1.0))


def test_no_tasks_need_no_process() -> None:
    assert list(run_isolated(misbehave, [], workers=2, timeout_sec=1, memory_gib=1.0)) == []
