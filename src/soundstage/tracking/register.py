"""Stage `register`: the trained adapter and its backbone become a version of a registered model."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..config.slices import RegisterSlice
from ..errors import ConfigError, DataError
from ..stages import Outcome, Work, Workspace, code_version
from ..stages.execute import Inputs
from ..stages.files import write_json
from .door import MetricSample, Place, as_current, open_place
from .folders import ADAPTER_CONFIG_FILE, ADAPTER_FOLDER, BACKBONE_FOLDER, DESCRIPTION_FILE, BackboneReference
from .lineage import IDENTITY, Candidate, describe_candidate, numeric_leaves, summary_line
from .packaging import ModelParts, save_version
from .provenance import PREFIX, code_tags
from .registry import CANDIDATE, RegisteredVersion, find_model, list_versions, registry_lock, version_folder

SERVING_MODULE = "soundstage.tracking.serving"


def run(config: RegisterSlice, inputs: Inputs, work: Work) -> Outcome:
    """Register the model, or find the version that already holds it; move the alias `candidate` to it.

    Writes `model.json`: name, version, model_uri, aliases, and what the gate needs besides the evaluation.
    """
    place = open_place(work.workspace, config.tracking)
    candidate = describe_candidate(work.workspace, inputs, code_version(SERVING_MODULE))
    parts = _parts(config, inputs, work.workspace)
    name = config.registry.name
    with registry_lock(work.workspace):
        version, note = _known_version(work.workspace, place, name, candidate.identity)
        created = version is None
        if version is None:
            with _run_of(place, work) as run_id:
                version = _create(place, config, candidate, parts, run_id)
        place.client.set_registered_model_alias(name, CANDIDATE, version)
        current = next(item for item in list_versions(place, name) if item.version == version)
    write_json(work.out / "model.json", _model(config, candidate, current))
    work.tracker.set_tags({f"{PREFIX}.model": current.uri})
    notes = {"model": current.uri} | ({"registry": note} if note else {})
    metrics = {} if candidate.trainable_share is None else {"trainable_share": candidate.trainable_share}
    return Outcome(counts={"versions_created": int(created)}, metrics=metrics, notes=notes)


def _model(config: RegisterSlice, candidate: Candidate, version: RegisteredVersion) -> dict[str, Any]:
    return {
        "name": version.name,
        "version": version.version,
        "model_uri": version.uri,
        "aliases": list(version.aliases),
        "identity": candidate.identity,
        "comparable": candidate.comparable,
        "trainable_share": candidate.trainable_share,
        "max_share": config.model.adapter.max_share,
        "stage_two": candidate.stage_two,
    }


def _parts(config: RegisterSlice, inputs: Inputs, workspace: Workspace) -> ModelParts:
    backbone_file = workspace.output(inputs["backbone"], f"{BACKBONE_FOLDER}/{DESCRIPTION_FILE}")
    adapter_file = workspace.output(inputs["finetune"], f"{ADAPTER_FOLDER}/{ADAPTER_CONFIG_FILE}")
    fingerprint = json.loads(backbone_file.read_text())["fingerprint"]
    trained_on = json.loads(adapter_file.read_text())["backbone_fingerprint"]
    if trained_on != fingerprint:
        raise DataError(
            f"the adapter of finetune {inputs['finetune'].digest[:12]} was trained on backbone {trained_on[:16]}, "
            f"stage backbone now gives {fingerprint[:16]}; rerun `soundstage train pretrain` and what follows it"
        )
    backbone = config.model.backbone
    reference = BackboneReference(backbone.family, backbone.pretrained, fingerprint)
    evaluation = workspace.output(inputs["evaluation"], "evaluation.json")
    return ModelParts(adapter_file.parent, backbone_file.parent, reference, evaluation)


def _known_version(workspace: Workspace, place: Place, name: str, identity: str) -> tuple[str | None, str]:
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
def _run_of(place: Place, work: Work) -> Iterator[str]:
    """The run that the version belongs to: the stage's own, or one made for it when nothing follows the stage."""
    if work.tracker.run_id is not None:
        yield work.tracker.run_id
        return
    run_id = place.client.create_run(place.experiment_id, tags=code_tags(), run_name="register").info.run_id
    status = "FAILED"
    try:
        yield run_id
        status = "FINISHED"
    finally:
        place.client.set_terminated(run_id, status)


def _create(place: Place, config: RegisterSlice, candidate: Candidate, parts: ModelParts, run_id: str) -> str:
    """Log the model with its metrics and make a version of it; returns the version."""
    from mlflow.entities import LoggedModelOutput

    name = config.registry.name
    logged = place.client.create_logged_model(
        place.experiment_id, name=name, source_run_id=run_id, tags={IDENTITY: candidate.identity}
    )
    status = "FAILED"
    try:
        _log_files(place, logged, run_id, parts, config)
        status = "READY"
    finally:
        place.client.finalize_logged_model(logged.model_id, status)
    place.client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    now = int(time.time() * 1000)
    measured = {name: candidate.evaluation.get(name, {}) for name in ("metrics", "paired")}
    leaves = numeric_leaves(measured["metrics"]) | numeric_leaves(measured["paired"], "paired.")
    samples = [MetricSample(key, value, now, 0) for key, value in leaves.items()]
    place.log_metrics(run_id, samples, model_id=logged.model_id)
    if find_model(place, name) is None:
        place.client.create_registered_model(name, description="Animates a picture in time with a sound.")
    with as_current(place):
        version = place.client.create_model_version(
            name,
            source=f"models:/{logged.model_id}",
            run_id=run_id,
            tags={**code_tags(), **candidate.tags},
            description=summary_line(candidate),
            model_id=logged.model_id,
        )
    return str(version.version)


def _log_files(place: Place, logged: Any, run_id: str, parts: ModelParts, config: RegisterSlice) -> None:
    from mlflow.models import Model

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model"
        described = Model(
            artifact_path=logged.artifact_location,
            model_uuid=logged.model_id,
            run_id=run_id,
            model_id=logged.model_id,
        )
        save_version(target, parts, config.evaluate, described)
        place.client.log_model_artifacts(logged.model_id, str(target))
