"""The registered versions of a model: their aliases, their tags, and the folders they hold."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ..config.tree import TrackingConfig
from ..errors import ConfigError
from ..stages.files import exclusive_lock, replace_directory
from ..stages.workspace import Workspace
from .door import Place, as_current, open_place

if TYPE_CHECKING:
    from mlflow.entities.model_registry import RegisteredModel

CANDIDATE, CHAMPION = "candidate", "champion"
URI_PREFIX = "models:/"


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of a registered model."""

    name: str
    version: str
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    run_id: str | None

    @property
    def uri(self) -> str:
        """MLflow's address of this version."""
        return f"{URI_PREFIX}{self.name}/{self.version}"


def find_model(place: Place, name: str) -> RegisteredModel | None:
    """The registered model called `name`, or None."""
    from mlflow.exceptions import MlflowException

    try:
        return place.client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def list_versions(place: Place, name: str) -> list[RegisteredVersion]:
    """All versions of a model, newest first; none when there is no such model."""
    model = find_model(place, name)
    if model is None:
        return []
    aliases: dict[str, list[str]] = {}
    for alias, version in sorted(model.aliases.items()):
        aliases.setdefault(str(version), []).append(alias)
    versions = []
    token = None
    while True:
        page = place.client.search_model_versions(f"name='{name}'", page_token=token)
        versions += [
            RegisteredVersion(name, str(v.version), tuple(aliases.get(str(v.version), ())), dict(v.tags), v.run_id)
            for v in page
        ]
        token = page.token
        if not token:
            return sorted(versions, key=lambda item: int(item.version), reverse=True)


def registered(workspace: Workspace, tracking: TrackingConfig, name: str) -> list[RegisteredVersion]:
    """All versions of a model in the tracking place, newest first, with aliases and tags."""
    return list_versions(open_place(workspace, tracking), name)


def version_with(versions: list[RegisteredVersion], alias: str) -> RegisteredVersion | None:
    """The version that `alias` points to."""
    return next((version for version in versions if alias in version.aliases), None)


@contextmanager
def registry_lock(workspace: Workspace) -> Iterator[None]:
    """Hold while versions are made or aliases moved.

    Processes of one workspace exclude each other; MLflow offers no lock across workspaces that share a server.
    """
    with exclusive_lock(workspace.tracking / ".registry.lock"):
        yield


def version_folder(workspace: Workspace, place: Place, name: str, version: str) -> Path:
    """Local folder of a version's files; files on a server are fetched once into the workspace.

    Raises:
        ConfigError: the files are gone.
    """
    location = place.client.get_model_version_download_uri(name, version)
    if urlsplit(location).scheme in ("", "file"):
        folder = Path(url2pathname(urlsplit(location).path))
    else:
        folder = _fetch(workspace, place, name, version)
    if not (folder / "MLmodel").is_file():
        raise ConfigError(
            f"{URI_PREFIX}{name}/{version} is registered, but its files are gone from {folder}; "
            "register the model again with `soundstage register`"
        )
    return folder


def _fetch(workspace: Workspace, place: Place, name: str, version: str) -> Path:
    from mlflow.artifacts import download_artifacts

    folder = workspace.tracking / "models" / name / version
    with exclusive_lock(folder.with_name(f".{version}.lock")):
        if not folder.exists():
            partial = folder.with_name(f".{version}.{os.getpid()}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            with as_current(place):
                fetched = download_artifacts(artifact_uri=f"{URI_PREFIX}{name}/{version}", dst_path=str(partial))
            replace_directory(Path(fetched), folder)
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def find_version(place: Place, reference: str) -> RegisteredVersion:
    """The version that `models:/NAME@ALIAS` or `models:/NAME/NUMBER` names.

    Raises:
        ConfigError: malformed, or nothing is registered so; what is registered is listed.
    """
    body = reference.removeprefix(URI_PREFIX)
    by_alias = "@" in body
    name, _, wanted = body.rpartition("@" if by_alias else "/")
    if not reference.startswith(URI_PREFIX) or not name or not wanted:
        raise ConfigError(f"model {reference!r} is not of the form models:/NAME@champion or models:/NAME/3")
    versions = list_versions(place, name)
    for version in versions:
        if (wanted in version.aliases) if by_alias else (wanted == version.version):
            return version
    known = ", ".join(f"{v.version} ({', '.join(v.aliases) or 'no alias'})" for v in versions)
    raise ConfigError(
        f"model {reference!r} is not registered at {place.uri}; "
        + (f"versions of {name}: {known}" if known else f"there is no model called {name}: run the pipeline first")
    )
