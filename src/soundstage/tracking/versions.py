"""Make a version of a registered model from files: the steps that every kind of model shares."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..stages.workspace import Workspace
from .door import MetricSample, Place, as_current
from .lineage import IDENTITY
from .provenance import code_tags
from .registry import find_model, list_versions, version_folder

if TYPE_CHECKING:
    from mlflow.models import Model


@dataclass(frozen=True)
class NewVersion:
    """What a version is made of."""

    name: str
    identity: str
    """equal for equal models: the same one is never registered twice"""
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    description: str
    of_model: str
    """one sentence on the registered model, for its first version"""
    write: Callable[[Path, Model], None]
    """writes the version's files to a new folder, given MLflow's description of the model"""


def known_version(workspace: Workspace, place: Place, name: str, identity: str) -> tuple[str | None, str]:
    """The newest version that holds this very model, and what to note of it."""
    for version in list_versions(place, name):
        if version.tags.get(IDENTITY) == identity:
            try:
                version_folder(workspace, place, name, version.version)
            except ConfigError:
                return None, f"version {version.version} is this model too, but its files are gone: registered anew"
            return version.version, f"version {version.version} is this very model: reused, none created"
    return None, ""


@contextmanager
def run_for(place: Place, run_id: str | None, name: str) -> Iterator[str]:
    """The run a version belongs to: the given one, or one made for it when nothing follows the work."""
    if run_id is not None:
        yield run_id
        return
    made = place.client.create_run(place.experiment_id, tags=code_tags(), run_name=name).info.run_id
    status = "FAILED"
    try:
        yield made
        status = "FINISHED"
    finally:
        place.client.set_terminated(made, status)


def create_version(place: Place, new: NewVersion, run_id: str) -> str:
    """Log the model with its metrics and make a version of it; returns the version."""
    from mlflow.entities import LoggedModelOutput

    logged = place.client.create_logged_model(
        place.experiment_id, name=new.name, source_run_id=run_id, tags={IDENTITY: new.identity}
    )
    status = "FAILED"
    try:
        _log_files(place, logged, run_id, new)
        status = "READY"
    finally:
        place.client.finalize_logged_model(logged.model_id, status)
    place.client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    now = int(time.time() * 1000)
    samples = [MetricSample(key, value, now, 0) for key, value in new.metrics.items()]
    place.log_metrics(run_id, samples, model_id=logged.model_id)
    if find_model(place, new.name) is None:
        place.client.create_registered_model(new.name, description=new.of_model)
    with as_current(place):
        version = place.client.create_model_version(
            new.name,
            source=f"models:/{logged.model_id}",
            run_id=run_id,
            tags={**code_tags(), **new.tags},
            description=new.description,
            model_id=logged.model_id,
        )
    return str(version.version)


def _log_files(place: Place, logged: Any, run_id: str, new: NewVersion) -> None:
    from mlflow.models import Model

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model"
        described = Model(
            artifact_path=logged.artifact_location,
            model_uuid=logged.model_id,
            run_id=run_id,
            model_id=logged.model_id,
        )
        new.write(target, described)
        place.client.log_model_artifacts(logged.model_id, str(target))
