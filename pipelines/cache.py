"""When kfp's local cache may be believed.

kfp remembers that a task ran and the record it wrote, not the payload that record names. A user may delete payloads,
or make one anew by the command line; kfp would still answer with the old record. So the content of every result made
under kfp is noted beside its cache, and the cache is forgotten as soon as one of them is gone or different. Forgetting
costs little: each task then finds its stage's result in the workspace by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from soundstage.catalog import STAGES
from soundstage.stages import StageRecord, Workspace
from soundstage.stages.files import write_json

from . import local

CONTENTS_FILE = "contents.json"


def settle(workspace: Workspace, *, forget: bool) -> None:
    """Forget kfp's cache if asked to, or if it could answer with a result that no longer stands."""
    if forget or not all(_stands(workspace, known) for known in _read(workspace).values()):
        local.forget_cache(workspace.kfp)
        _path(workspace).unlink(missing_ok=True)


def remember(workspace: Workspace, events: Iterable[Mapping[str, Any]]) -> None:
    """Note the contents of results that kfp has seen in this run."""
    contents = _read(workspace)
    for event in events:
        if event["event"] == "finished" and STAGES[event["stage"]].cacheable:
            contents[event["digest"]] = {name: event[name] for name in ("stage", "digest", "content")}
    write_json(_path(workspace), contents)


def _path(workspace: Workspace) -> Path:
    return workspace.kfp / CONTENTS_FILE


def _read(workspace: Workspace) -> dict[str, dict[str, str]]:
    path = _path(workspace)
    if not path.exists():
        return {}
    contents: dict[str, dict[str, str]] = json.loads(path.read_text())
    return contents


def _stands(workspace: Workspace, known: Mapping[str, str]) -> bool:
    path = workspace.payload(known["stage"], known["digest"]) / "record.json"
    return path.exists() and StageRecord.load(path).content == known["content"]
