"""A task may kill, stall or bloat its process: it fails alone, and every other task is answered."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest

from soundstage.errors import DataError
from soundstage.media.isolation import WorkerFailure, in_order, run_isolated


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
    if task == "nap":
        time.sleep(0.5)
    if task == "refuse":
        raise DataError("clip 7 holds no frame")
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


def test_a_clear_refusal_keeps_its_words() -> None:
    with pytest.raises(DataError, match=r"^clip 7 holds no frame$"):
        list(run_isolated(misbehave, ["refuse"], workers=1, timeout_sec=60, memory_gib=None))


def test_tasks_sent_ahead_of_a_failed_one_are_done_by_others() -> None:
    tasks = ["a", "kill", "b", "c", "stall", "d", "e", "f"]
    found = list(run_isolated(misbehave, tasks, workers=2, timeout_sec=2.0, memory_gib=1.0, ahead=4))
    assert sorted(index for index, _ in found) == list(range(len(tasks)))
    answers = list(in_order(found))
    assert [getattr(answer, "reason", answer) for answer in answers] == [
        *("a done", "crashed", "b done", "c done", "timeout", "d done", "e done", "f done")
    ]


def test_the_time_of_a_task_begins_when_the_one_before_has_ended() -> None:
    found = run_isolated(misbehave, ["nap"] * 5, workers=1, timeout_sec=2.0, memory_gib=None, ahead=5)
    # Together they take longer than one may.
    assert list(in_order(found)) == ["nap done"] * 5


def remember() -> None:
    """Set up a process: what it allocates does not count."""
    global _STATE
    _STATE = np.zeros(2**30, np.uint8)


def recall(task: str) -> tuple[str, int, int]:
    return task, os.getpid(), len(_STATE)


_STATE = np.zeros(0, np.uint8)


def test_each_process_is_set_up_once_before_its_memory_is_limited() -> None:
    found = list(run_isolated(recall, list("abcd"), workers=1, timeout_sec=60, memory_gib=0.5, ahead=2, setup=remember))
    assert [answer[0] for _, answer in found] == list("abcd")
    assert {answer[1:] for _, answer in found} == {(found[0][1][1], 2**30)}


def refuse() -> None:
    raise DataError("no weights at x.safetensors")


def test_a_set_up_that_refuses_ends_the_run() -> None:
    with pytest.raises(DataError, match=r"no weights at x\.safetensors"):
        list(run_isolated(recall, ["a"], workers=1, timeout_sec=60, memory_gib=1.0, setup=refuse))


def test_in_order_holds_back_what_comes_early() -> None:
    assert list(in_order(iter([(2, "c"), (0, "a"), (1, "b"), (3, "d")]))) == ["a", "b", "c", "d"]


def test_no_tasks_need_no_process() -> None:
    assert list(run_isolated(misbehave, [], workers=2, timeout_sec=1, memory_gib=1.0)) == []
