"""The TrainJob of a training job: trainer.kubeflow.org/v1alpha1 as Kubeflow Trainer 2.2 and 2.3 have it."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from ...config.tree import LauncherConfig, TrainJobConfig
from ...errors import ConfigError
from ...stages.files import sha256_text
from .. import worker
from ..job import TrainingJob
from .base import EXIT_MARGIN_SEC, process_environment

CONTAINER = "node"
"""The trainer's container and replicated job, as the torch policy wants them named."""
HASH = "soundstage/job-hash"
"""Annotation: the hash of the manifest, so that a job that was made from other settings is known."""
_MANAGER = "soundstage/launcher"
_VOLUME = "soundstage-workspace"


def seen_from_pods(job: TrainingJob, workspace: Path | None) -> TrainingJob:
    """`job` with its paths as pods see them: below `trainjob.workspace_path` instead of `workspace`.

    Raises:
        ConfigError: something that the job needs lies outside of the workspace.
    """
    target = Path(job.config.launcher.trainjob.workspace_path)
    if workspace is None:
        raise ConfigError("launcher.kind=trainjob needs a workspace that pods share; run the job as a stage of one")
    moved = {}
    for name in type(job).model_fields:
        path = getattr(job, name)
        if isinstance(path, Path):
            if not path.is_relative_to(workspace):
                raise ConfigError(
                    f"{job.stage}: {name} is {path}, outside of the workspace {workspace}; pods see nothing but the "
                    "workspace: move it there"
                )
            moved[name] = target / path.relative_to(workspace)
    _check_backbone(job.config.model.backbone.pretrained, workspace, target)
    return job.model_copy(update=moved)


def _check_backbone(pretrained: str | None, workspace: Path, target: Path) -> None:
    """A folder's name is part of what shards were encoded with, so it stays, and must mean the same in pods."""
    if pretrained is None or not Path(pretrained).exists():
        return  # a hub id
    path = Path(pretrained)
    if not path.is_relative_to(target) or workspace != target:
        raise ConfigError(
            f"model.backbone.pretrained={pretrained} is a folder here, which pods do not see under this name; name a "
            f"hub id, or keep it in the workspace and mount that at {target} here too"
        )


def job_name(job: TrainingJob) -> str:
    """Name of the TrainJob: its stage and the place of its checkpoints, which two jobs must never share."""
    return f"soundstage-{job.stage}-{sha256_text(str(job.scratch))[:12]}"


def train_job(job: TrainingJob, job_file: Path) -> dict[str, Any]:
    """The manifest; `job` and `job_file` as pods see them."""
    config, place = job.config.launcher, job.config.launcher.trainjob
    labels = {
        "app.kubernetes.io/part-of": "soundstage",
        "app.kubernetes.io/component": job.stage,
        "kueue.x-k8s.io/queue-name": place.queue,
        "kueue.x-k8s.io/priority-class": place.priority_class,
    }
    spec = {
        "runtimeRef": {
            "apiGroup": "trainer.kubeflow.org",
            "kind": "ClusterTrainingRuntime",
            "name": place.runtime,
        },
        "activeDeadlineSeconds": place.deadline_sec,
        "trainer": _trainer(config, job_file),
        "runtimePatches": [_patch(config, place)],
    }
    metadata = {
        "name": job_name(job),
        "namespace": place.namespace,
        "labels": {name: value for name, value in labels.items() if value},
        "annotations": {HASH: sha256_text(json.dumps([spec, job.model_dump(mode="json")], sort_keys=True))},
    } | _owner()
    return {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", "metadata": metadata, "spec": spec}


def _trainer(config: LauncherConfig, job_file: Path) -> dict[str, Any]:
    place = config.trainjob
    made: dict[str, Any] = {
        "command": ["torchrun"],
        "args": ["-m", worker.__name__, str(job_file)],
        "env": [{"name": name, "value": value} for name, value in (process_environment(config) | place.env).items()]
        # Keys one by one: no patch may set envFrom.
        + [_from_secret(name, place.secret_env[name]) for name in place.secret_env],
        "numNodes": place.nodes,
        "numProcPerNode": config.ranks // place.nodes,
    }
    if place.image:
        made["image"] = place.image
    amounts = {"nvidia.com/gpu": str(place.gpus_per_node or ""), "cpu": place.cpu, "memory": place.memory}
    amounts = {name: amount for name, amount in amounts.items() if amount}
    if amounts:
        made["resourcesPerNode"] = {"limits": amounts, "requests": amounts}
    return made


def _from_secret(name: str, source: str) -> dict[str, Any]:
    secret, _, key = source.partition("/")
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def _patch(config: LauncherConfig, place: TrainJobConfig) -> dict[str, Any]:
    """What of the runtime's pods is ours to change; Kueue adds a patch of its own."""
    pod: dict[str, Any] = {"terminationGracePeriodSeconds": math.ceil(config.grace_sec + EXIT_MARGIN_SEC)}
    if place.node_selector:
        pod["nodeSelector"] = dict(place.node_selector)
    if place.service_account:
        pod["serviceAccountName"] = place.service_account
    if place.workspace_claim:
        mount = {"name": _VOLUME, "mountPath": place.workspace_path}
        pod["volumes"] = [{"name": _VOLUME, "persistentVolumeClaim": {"claimName": place.workspace_claim}}]
        pod["containers"] = [{"name": CONTAINER, "volumeMounts": [mount]}]
    job_spec = {"template": {"spec": pod}}
    jobs = [{"name": CONTAINER, "template": {"spec": job_spec}}]
    return {"manager": _MANAGER, "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": jobs}}}}


def _owner() -> dict[str, Any]:
    """The launching pod as owner, where the downward API names it: the job goes when that pod goes, however it does."""
    name, uid = os.environ.get("POD_NAME"), os.environ.get("POD_UID")
    return {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}]} if name and uid else {}
