"""Sync scorers in the registry: a model like any other, that takes videos and gives what it hears in them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.tree import NAME_PATTERN, TrackingConfig
from ..curation.scorer.reference import GROUPS_FILE, SCORER_FOLDER, describe, scorer_folder
from ..errors import ConfigError, DataError
from ..stages.files import sha256_text
from ..stages.fingerprint import code_version
from ..stages.record import StageRecord
from ..stages.workspace import Workspace
from .door import open_place
from .lineage import IDENTITY
from .packaging import save_pyfunc
from .provenance import PREFIX
from .registry import URI_PREFIX, registry_lock
from .versions import NewVersion, create_version, known_version, run_for

if TYPE_CHECKING:
    from mlflow.models import Model, ModelSignature

_SERVING = "scorer_serving"


def check_name(name: str, animator: str) -> None:
    """Refuse a name under which no scorer can be registered; `animator` is the name of the models that animate.

    Raises:
        ConfigError: the registry takes no such name, or versions of two kinds would stand under one.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConfigError(f"--register-as {name!r} is no model name; use letters, digits, and ._-")
    if name == animator:
        raise ConfigError(
            f"--register-as {name} is the name of the models that animate (registry.name), whose gate would find "
            "scorers among them; give scorers another one"
        )


def register_scorer(workspace: Workspace, tracking: TrackingConfig, name: str, record: StageRecord) -> str:
    """Make the scorer of a `curator` or `judge` stage a version of model `name`; returns the version's address.

    The same scorer is registered once. The alias of its role (`curator`, `judge`) moves to it.

    Raises:
        DataError: the stage trained no scorer.
    """
    folder = scorer_folder(record, workspace)
    if folder is None:
        raise DataError(
            f"stage {record.stage} holds no scorer to register: {record.notes.get('scorer', 'none was trained')}"
        )
    about = describe(folder)
    serving = code_version(f"soundstage.tracking.{_SERVING}")
    identity = sha256_text(json.dumps([about["fingerprint"], serving]))
    place = open_place(workspace, tracking)
    with registry_lock(workspace):
        version, _ = known_version(workspace, place, name, identity)
        if version is None:
            with run_for(place, None, f"register {record.stage}") as run_id:
                version = create_version(place, _new_version(name, identity, folder, record, workspace), run_id)
        place.client.set_registered_model_alias(name, record.stage, version)
    return f"{URI_PREFIX}{name}/{version}"


def _new_version(name: str, identity: str, folder: Path, record: StageRecord, workspace: Workspace) -> NewVersion:
    artifacts = {SCORER_FOLDER: folder}
    if GROUPS_FILE in record.outputs:
        artifacts["groups"] = workspace.output(record, GROUPS_FILE)

    def write(target: Path, described: Model) -> None:
        save_pyfunc(target, f"{_SERVING}.py", artifacts, _signature(), described)

    fingerprint = str(describe(folder)["fingerprint"])
    figures = ", ".join(f"{key} {value:g}" for key, value in record.metrics.items()) or "not measured"
    return NewVersion(
        name=name,
        identity=identity,
        tags={
            IDENTITY: identity,
            f"{PREFIX}.role": record.stage,
            f"{PREFIX}.scorer": fingerprint,
            f"{PREFIX}.stage.{record.stage}": record.digest,
            f"{PREFIX}.content.{record.stage}": record.content,
        },
        metrics=record.metrics,
        description=f"sync scorer of role {record.stage}; {figures}",
        of_model="Tells whether a video's sound belongs to its picture, and by how much it is late.",
        write=write,
    )


def _signature() -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    names = ("sync_score", "sync_match", "sync_offset_sec", "sync_confidence", "synchronisability")
    return ModelSignature(
        inputs=Schema([ColSpec("binary", "video")]), outputs=Schema([ColSpec("double", name) for name in names])
    )
