"""The door to kfp's local runner: what the log holds, and what an orderly end is."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time

import psutil

from pipelines.local import Tee, _own_temporary_folder, end_children


def test_tee_writes_whole_plain_lines_to_both_and_remembers_the_last():
    terminal, log = io.StringIO(), io.StringIO()
    tee = Tee(terminal, log)
    for text in ("    \x1b[91mfir", "st\x1b[0m\n", "\n", "    \n", "        deeper\n", "no end"):
        tee.write(text)
    assert terminal.getvalue() == log.getvalue() == "first\n    deeper\n"
    assert list(tee.tail) == ["first", "    deeper"]


def test_temporary_folder_goes_away_with_what_tasks_leave_there(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with _own_temporary_folder():
        inside = os.environ["TMPDIR"]
        subprocess.run(["sh", "-c", "mktemp -d"], check=True, capture_output=True)
        assert os.listdir(inside)
    assert os.environ["TMPDIR"] == str(tmp_path)
    assert not os.path.exists(inside)


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
