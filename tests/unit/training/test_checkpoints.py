"""Checkpoints on disk: whole or not at all, and none but the newest."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from soundstage.errors import TrainingError
from soundstage.training.checkpoints import clear_partial, newest, partial_folder, publish, tag_of


def write(root: Path, steps: int, keep: int = 2, content: bytes = b"weights") -> None:
    folder = partial_folder(root) / tag_of(steps)
    (folder / "zero").mkdir(parents=True)
    (folder / "mp_rank_00_model_states.pt").write_bytes(content)
    (folder / "zero" / "piece.pt").write_bytes(content * 2)
    publish(root, steps, 2, 1, {"note": steps}, keep)


def test_the_newest_is_found_and_older_ones_are_dropped(tmp_path: Path) -> None:
    assert newest(tmp_path) is None
    for steps in (2, 10, 100):
        write(tmp_path, steps)
    found = newest(tmp_path)
    assert found is not None
    assert (found.steps, found.world_size, found.zero_stage, found.state) == (100, 2, 1, {"note": 100})
    assert found.tag == "step00000100"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step00000010", "step00000100"]
    assert (tmp_path / "latest").read_text() == "step00000100"


def test_one_written_again_takes_the_place_of_the_old(tmp_path: Path) -> None:
    write(tmp_path, 4, content=b"old")
    write(tmp_path, 4, content=b"new")
    found = newest(tmp_path)
    assert found is not None
    assert (found.folder / "mp_rank_00_model_states.pt").read_bytes() == b"new"


def test_what_is_half_written_is_no_checkpoint(tmp_path: Path) -> None:
    write(tmp_path, 2)
    half = partial_folder(tmp_path) / tag_of(4)
    half.mkdir(parents=True)
    (half / "mp_rank_00_model_states.pt").write_bytes(b"wei")
    deleted = tmp_path / ".old-step00000001"
    deleted.mkdir()
    found = newest(tmp_path)
    assert found is not None
    assert found.steps == 2
    clear_partial(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step00000002"]


@pytest.mark.parametrize(("altered", "said"), [(b"wei", "has 3 bytes, 7 bytes were written"), (None, "is gone")])
def test_an_altered_one_is_refused_by_name(tmp_path: Path, altered: bytes | None, said: str) -> None:
    write(tmp_path, 2)
    write(tmp_path, 4)
    path = tmp_path / tag_of(4) / "mp_rank_00_model_states.pt"
    if altered is None:
        path.unlink()
    else:
        path.write_bytes(altered)
    with pytest.raises(TrainingError) as caught:
        newest(tmp_path)
    assert f"checkpoint {tmp_path / tag_of(4)}: mp_rank_00_model_states.pt {said}" in str(caught.value)
    assert "delete this folder to go on from the one before it" in str(caught.value)


def test_a_kill_before_any_file_operation_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    for call in range(1, 80):
        root = tmp_path / str(call)
        write(root, 2)
        write(root, 4)
        child = os.fork()
        if child == 0:
            _die_at(call, root)
        _, status = os.waitpid(child, 0)
        found = newest(root)
        assert found is not None
        assert found.steps in (4, 6)
        clear_partial(root)
        write(root, 8)
        again = newest(root)
        assert again is not None
        assert again.steps == 8
        if os.waitstatus_to_exitcode(status) == 0:
            break
    assert 10 < call < 79, "no run came through, or the hook saw nothing"


def _die_at(call: int, root: Path) -> None:
    """In a forked child: write a checkpoint, and end the process at the given file operation."""
    seen = 0

    def hook(event: str, _arguments: object) -> None:
        nonlocal seen
        if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "open"):
            seen += 1
            if seen == call:
                os._exit(9)

    sys.addaudithook(hook)
    write(root, 6)
    os._exit(0)
