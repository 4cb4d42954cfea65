"""Where things lie, and what is said when they do not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from soundstage.config import Config
from soundstage.errors import DataError
from soundstage.stages import Inputs, Outcome, StageRecord, Work, Workspace, execute
from soundstage.stages import workspace as workspace_module


class Empty(Config):
    pass


def two_files(config: Empty, inputs: Inputs, work: Work) -> Outcome:
    (work.out / "a.txt").write_text("a" * 600)
    (work.out / "b.txt").write_text("b" * 600)
    return Outcome()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "workspace")


def record_in(workspace: Workspace) -> StageRecord:
    return execute("two", two_files, Empty(), {}, workspace, code_version="v").record


def test_a_stage_that_has_not_run_is_named(workspace: Workspace) -> None:
    with pytest.raises(DataError, match=r"stage 'ingest' has no result in workspace .*run `soundstage ingest`"):
        workspace.current("ingest")


def test_an_unknown_output_is_answered_with_the_known(workspace: Workspace) -> None:
    with pytest.raises(DataError, match=r"stage two wrote no 'c.txt'; its files: a.txt, b.txt"):
        workspace.output(record_in(workspace), "c.txt")


def test_a_deleted_payload_is_named_with_its_cure(workspace: Workspace) -> None:
    record = record_in(workspace)
    shutil.rmtree(workspace.resolve(record.payload))
    with pytest.raises(DataError, match=r"a\.txt of stage two is gone from the workspace; rerun `soundstage two`"):
        workspace.output(record, "a.txt")


def test_large_results_publish_their_record_alone(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace_module, "PUBLISH_LIMIT_BYTES", 1199)
    record = record_in(workspace)
    assert [path.name for path in workspace.manifest("two").iterdir()] == ["record.json"]
    monkeypatch.setattr(workspace_module, "PUBLISH_LIMIT_BYTES", 1200)
    workspace.publish(record)
    assert sorted(path.name for path in workspace.manifest("two").iterdir()) == ["a.txt", "b.txt", "record.json"]


def test_the_environment_names_a_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDSTAGE_WORKSPACE", str(tmp_path / "from-environment"))
    assert Workspace.open().root == tmp_path / "from-environment"
    assert Workspace.open(tmp_path / "given").root == tmp_path / "given"
    monkeypatch.delenv("SOUNDSTAGE_WORKSPACE")
    assert Workspace.open().root == Path.cwd() / "workspace"


def test_uris_are_relative_even_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    workspace = Workspace.open(tmp_path / "link")
    assert workspace.relative(tmp_path / "link" / "x" / "y") == "x/y"
    assert workspace.resolve("x/y") == tmp_path / "real" / "x" / "y"


@pytest.mark.parametrize("text", ["{", '{"stage": "x"}', "[]"])
def test_a_record_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(DataError, match="is not readable as one"):
        StageRecord.load(tmp_path / "record.json")
    with pytest.raises(DataError, match="does not exist; run the stage"):
        StageRecord.load(tmp_path / "absent.json")
