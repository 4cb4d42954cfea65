"""The procedural world as a source: built once below the workspace, named by its configuration and code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ...config.slices import IngestSlice
from ...stages.files import exclusive_lock, replace_directory, sha256_text
from ...stages.fingerprint import code_version
from ...stages.workspace import Workspace

SYNTH_SOURCE = "synth:"
SYNTH_MODULE = "soundstage.synth.world"


def is_synth(config: IngestSlice) -> bool:
    """Whether the sources are the procedural world."""
    return config.ingest.source == SYNTH_SOURCE


def world_digest(config: IngestSlice) -> str:
    """Hash of the world's configuration and code: equal ones make equal files."""
    assert config.synth is not None
    return sha256_text(json.dumps([config.synth.canonical_json(), code_version(SYNTH_MODULE)]))


def resolve_world(config: IngestSlice, workspace: Workspace) -> Path:
    """The world's folder, built if it is not there."""
    from ...synth.world import build_world

    assert config.synth is not None
    folder = workspace.root / "world" / world_digest(config)[:24]
    with exclusive_lock(folder.with_name(f".{folder.name}.lock")):
        if not folder.exists():
            partial = folder.with_name(f".{folder.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            build_world(config.synth, partial)
            replace_directory(partial, folder)
    return folder
