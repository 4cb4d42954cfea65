"""Stage `register`: the trained adapter and its backbone become a version of a registered model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.slices import RegisterSlice
from ..errors import DataError
from ..stages import Outcome, Work, Workspace, code_version
from ..stages.execute import Inputs
from ..stages.files import write_json
from .door import open_place
from .folders import ADAPTER_CONFIG_FILE, ADAPTER_FOLDER, BACKBONE_FOLDER, DESCRIPTION_FILE, BackboneReference
from .lineage import Candidate, describe_candidate, numeric_leaves, summary_line
from .packaging import ModelParts, save_version
from .provenance import PREFIX
from .registry import CANDIDATE, RegisteredVersion, list_versions, registry_lock
from .versions import NewVersion, create_version, known_version, run_for

if TYPE_CHECKING:
    from mlflow.models import Model

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
        version, note = known_version(work.workspace, place, name, candidate.identity)
        created = version is None
        if version is None:
            with run_for(place, work.tracker.run_id, "register") as run_id:
                version = create_version(place, _new_version(config, candidate, parts), run_id)
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


def _new_version(config: RegisterSlice, candidate: Candidate, parts: ModelParts) -> NewVersion:
    measured = {name: candidate.evaluation.get(name, {}) for name in ("metrics", "paired")}

    def write(target: Path, described: Model) -> None:
        save_version(target, parts, config.evaluate, described)

    return NewVersion(
        name=config.registry.name,
        identity=candidate.identity,
        tags=candidate.tags,
        metrics=numeric_leaves(measured["metrics"]) | numeric_leaves(measured["paired"], "paired."),
        description=summary_line(candidate),
        of_model="Animates a picture in time with a sound.",
        write=write,
    )
