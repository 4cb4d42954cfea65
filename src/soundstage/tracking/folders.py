"""From what a user calls a model to the two folders it is made of: a frozen backbone and an adapter."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ..config.tree import TrackingConfig
from ..errors import ConfigError, DataError
from ..stages.record import StageRecord
from ..stages.workspace import Workspace
from .door import open_place
from .registry import URI_PREFIX, find_version, version_folder

BACKBONE_FOLDER, ADAPTER_FOLDER = "backbone", "adapter"
REFERENCE_FILE = "backbone_reference.json"
DESCRIPTION_FILE, ADAPTER_CONFIG_FILE = "backbone.json", "adapter.json"


@dataclass(frozen=True)
class BackboneReference:
    """Which backbone a registered adapter belongs to."""

    family: str
    pretrained: str | None
    """path or hub id; None: the trained stand-in, whose weights are bundled"""
    fingerprint: str

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(self.__dict__, indent=2, sort_keys=True) + "\n")

    @staticmethod
    def load(path: Path) -> BackboneReference:
        """Read what `save` wrote."""
        return BackboneReference(**json.loads(path.read_text()))


@dataclass(frozen=True)
class ModelFolders:
    """What `Animator.load` takes."""

    backbone: Path
    adapter: Path | None
    origin: str
    """the model as one would cite it: a registered version, or a path"""


def resolve_model(workspace: Workspace, tracking: TrackingConfig, reference: str) -> ModelFolders:
    """The folders of a model given as `models:/NAME@ALIAS`, `models:/NAME/NUMBER`, or a path.

    A path is a registered version's folder, a saved `AudioSyncPipeline`, the payload of `pretrain` or `finetune`, the
    payload of `backbone` (no adapter), or any folder that holds `backbone/` and, if any, `adapter/`.

    Raises:
        ConfigError: no such version or folder.
        DataError: the folder holds no model, or another backbone than the one the adapter was made for.
    """
    if reference.startswith(URI_PREFIX):
        place = open_place(workspace, tracking)
        version = find_version(place, reference)
        return _of_folder(workspace, version_folder(workspace, place, version.name, version.version), version.uri)
    folder = Path(reference).expanduser()
    if not folder.is_dir():
        raise ConfigError(
            f"model {reference!r} is no folder; give models:/NAME@champion, or the folder of a registered model or "
            "of a training stage's result"
        )
    return _of_folder(workspace, folder.resolve(), str(folder))


def _of_folder(workspace: Workspace, folder: Path, origin: str) -> ModelFolders:
    files = folder / "artifacts" if (folder / "MLmodel").exists() else folder
    adapter = files / ADAPTER_FOLDER if (files / ADAPTER_FOLDER).is_dir() else None
    if (files / REFERENCE_FILE).exists():
        return ModelFolders(referenced_backbone(files), adapter, origin)
    if (files / BACKBONE_FOLDER).is_dir():
        return ModelFolders(files / BACKBONE_FOLDER, adapter, origin)
    if adapter is not None and (files / DESCRIPTION_FILE).exists():  # a saved pipeline
        return ModelFolders(files, adapter, origin)
    if adapter is not None and (files / "record.json").exists():
        return ModelFolders(_backbone_of_payload(workspace, files / "record.json"), adapter, origin)
    raise DataError(
        f"{origin} holds no model; expected an MLmodel file, a saved pipeline, folders backbone/ and adapter/, or a "
        "training stage's result; found: "
        + (", ".join(sorted(path.name for path in files.iterdir())[:12]) or "nothing")
    )


def _backbone_of_payload(workspace: Workspace, record_file: Path) -> Path:
    record = StageRecord.load(record_file)
    if "backbone" not in record.inputs:
        raise DataError(f"{record_file} is of stage {record.stage}, which has no backbone; give a result of finetune")
    folder = workspace.payload("backbone", record.inputs["backbone"].digest) / BACKBONE_FOLDER
    if not folder.is_dir():
        raise DataError(
            f"the adapter in {record_file.parent} belongs to the backbone {folder}, which is gone from the workspace; "
            "rerun the stage `backbone`, or give the model as models:/NAME@champion"
        )
    return folder


def referenced_backbone(files: Path) -> Path:
    """The backbone folder of a registered version: the stand-in's weights, or `backbone.json` of a pretrained one.

    Raises:
        DataError: it is not the backbone that the version was registered with.
    """
    reference = BackboneReference.load(files / REFERENCE_FILE)
    folder = files / BACKBONE_FOLDER
    check_fingerprint(folder, reference.fingerprint)
    return folder


def check_fingerprint(folder: Path, expected: str) -> None:
    """Compare the fingerprint that a saved backbone states with the registered one.

    Raises:
        DataError: they differ. A folder that states none passes here; the adapter refuses it when weights are loaded.
    """
    description = folder / DESCRIPTION_FILE
    if not description.exists():
        return
    found = json.loads(description.read_text()).get("fingerprint")
    if found != expected:
        raise DataError(
            f"backbone {folder} has fingerprint {found}, the model was registered with {expected}; "
            "restore that backbone, or train and register adapters for this one"
        )
