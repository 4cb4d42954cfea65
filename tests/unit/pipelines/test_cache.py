"""kfp's cache is believed only while every result it could answer with stands as it was made."""

from __future__ import annotations

import shutil

import pytest

from pipelines import cache, local
from soundstage.config.slices import SplitSlice
from soundstage.config.tree import SplitConfig
from soundstage.stages import Workspace
from soundstage.stages.execute import Outcome, execute


def _execute(workspace: Workspace, text: str, *, cacheable: bool = True):
    def function(config, inputs, work):
        (work.out / "result.txt").write_text(text)
        return Outcome()

    slice_ = SplitSlice(split=SplitConfig())
    return execute("split", function, slice_, {}, workspace, code_version="c", cacheable=cacheable).record


@pytest.fixture
def remembered(tmp_path):
    workspace = Workspace.open(tmp_path)
    record = _execute(workspace, "first")
    local.cache_folder(workspace.kfp).mkdir(parents=True)
    event = {"event": "finished", "stage": "split", "digest": record.digest, "content": record.content}
    cache.remember(workspace, [{"event": "started", "stage": "split"}, event])
    return workspace, record


def _settled(workspace: Workspace, *, forget: bool = False) -> bool:
    cache.settle(workspace, forget=forget)
    return local.cache_folder(workspace.kfp).exists()


def test_cache_is_kept_while_results_stand(remembered):
    assert _settled(remembered[0])


def test_cache_is_forgotten_when_a_payload_is_gone(remembered):
    workspace, record = remembered
    shutil.rmtree(workspace.resolve(record.payload))
    assert not _settled(workspace)


def test_cache_is_forgotten_when_a_result_was_made_anew_and_differs(remembered):
    workspace, _ = remembered
    _execute(workspace, "second", cacheable=False)
    assert not _settled(workspace)


def test_cache_is_forgotten_on_demand_and_only_once(remembered):
    workspace, _ = remembered
    assert not _settled(workspace, forget=True)
    local.cache_folder(workspace.kfp).mkdir(parents=True)
    assert _settled(workspace), "what was forgotten must not be held against the new cache"
