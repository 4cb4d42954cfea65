"""What is quoted of a log: the rank that died first, then our own words."""

from __future__ import annotations

import signal

import pytest

from soundstage.training.launchers.report import DeadRank, dead_ranks, last_words

# As torchrun of torch 2.14 prints it, when rank 2 exits, rank 1 is killed at once, and rank 0 is ended by torchrun.
REPORT = """
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
worker FAILED
------------------------------------------------------------
Failures:
[0]:
  time      : 2026-11-25_00:05:15
  host      : node-1
  rank      : 0 (local_rank: 0)
  exitcode  : -15 (pid: 6193)  (SIGTERM)
  error_file: <N/A>
  traceback : Signal 15 (SIGTERM) received by PID 6193
[1]:
  time      : 2026-11-25_00:05:15
  host      : node-1
  rank      : 1 (local_rank: 1)
  exitcode  : {code} (pid: 6194)
  error_file: <N/A>
  traceback : Signal 9 (SIGKILL) received by PID 6194
------------------------------------------------------------
Root Cause (first observed failure):
[2]:
  time      : 2026-11-25_00:05:14
  host      : node-1
  rank      : 2 (local_rank: 2)
  exitcode  : 4 (pid: 6195)
  error_file: <N/A>
  traceback : To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html
============================================================
"""


def test_a_refusal_of_ours_is_quoted_alone() -> None:
    log = "noise\nsoundstage: DataError: shard 3 is gone\nTraceback of torchrun\n" + "more\n" * 30
    assert last_words([log]) == "DataError: shard 3 is gone"


def test_refusals_of_several_ranks_and_hosts_are_all_quoted_once() -> None:
    assert last_words(["soundstage: A\nsoundstage: B\nnoise\nsoundstage: A\n", "soundstage: B\n"]) == "A\nB"


def test_without_a_refusal_the_end_of_the_log_is_quoted() -> None:
    assert last_words(["\n".join(f"line {n}" for n in range(40))], lines=3) == "line 37\nline 38\nline 39"


def test_the_rank_that_failed_first_is_named_before_its_words() -> None:
    log = "soundstage: DataError: gone\n" + REPORT.format(code=6)
    assert dead_ranks(log) == [DeadRank(2, 6195, 4), DeadRank(1, 6194, 6)]
    assert last_words([log]) == "rank 2 (process 6195) exited with code 4\nDataError: gone"


def test_a_rank_that_was_killed_comes_before_those_that_missed_it() -> None:
    said = last_words(["soundstage: RuntimeError: connection closed by peer\n" + REPORT.format(code=-9)])
    assert said.splitlines() == [
        "rank 1 (process 6194) was killed by signal 9 (SIGKILL), as the kernel does when memory runs out",
        "RuntimeError: connection closed by peer",
    ]


@pytest.mark.parametrize(("number", "name"), [(signal.SIGSEGV, "SIGSEGV"), (250, "unknown")])
def test_signals_are_named(number: int, name: str) -> None:
    assert str(DeadRank(3, 7, -number)) == f"rank 3 (process 7) was killed by signal {int(number)} ({name})"
