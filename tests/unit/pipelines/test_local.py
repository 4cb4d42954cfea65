"""The door to kfp's local runner: what the log holds, and what an orderly end is."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from pipelines.local import Tee, _own_temporary_folder, end_children


def test_tee_writes_whole_plain_lines_to_terminal_and_log():
    terminal, log = io.StringIO(), io.StringIO()
    tee = Tee(terminal, log)
    for text in ("    \x1b[91mfir", "st\x1b[0m\n", "\n", "    \n", "        deeper\n", "no end"):
        tee.write(text)
    assert terminal.getvalue() == log.getvalue() == "first\n    deeper\n"


def test_tee_keeps_the_executors_own_lines_to_the_log():
    terminal, log = io.StringIO(), io.StringIO()
    prefix = "[KFP Executor 2030-01-01 00:00:00,000 INFO]:"
    lines = [
        "-" * 80,
        f"{prefix} Looking for component `ingest` in --component_module_path",
        f"{prefix} Got executor_input:",
        "{",
        '    "inputs": {',
        "    }",
        "}",
        f"{prefix} 33 clips, 3 rejects",
        "{not the executor's}",
        f"{prefix} Wrote executor output file to x.",
    ]
    Tee(terminal, log).write("".join(f"    {line}\n" for line in lines))
    assert terminal.getvalue().splitlines() == [lines[7], lines[8]]
    assert log.getvalue().splitlines() == lines


def test_temporary_folder_goes_away_with_what_tasks_leave_there(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with _own_temporary_folder():
        inside = Path(os.environ["TMPDIR"])
        subprocess.run(["sh", "-c", "mktemp -d"], check=True, capture_output=True)
        assert list(inside.iterdir())
    assert os.environ["TMPDIR"] == str(tmp_path)
    assert not inside.exists()


def test_end_children_ends_grandchildren_and_the_deaf(monkeypatch):
    monkeypatch.setattr("pipelines.local.GRACE_SEC", 0.5)
    deaf = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    shell = subprocess.Popen(["sh", "-c", f'{sys.executable} -c "{deaf}"; true'], stdout=subprocess.PIPE, text=True)
    assert shell.stdout is not None
    assert shell.stdout.readline() == "up\n"
    family = psutil.Process(shell.pid).children(recursive=True)
    assert family
    end_children()
    shell.wait(timeout=10)
    deadline = time.monotonic() + 10
    while any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in family):
        assert time.monotonic() < deadline, f"{family} still run"
        time.sleep(0.05)
