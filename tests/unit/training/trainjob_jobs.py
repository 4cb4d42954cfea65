"""Jobs for a cluster that is asked for everything it can be asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from soundstage.training.job import TrainingJob

from .makers import job_in, train_slice

PLACE: dict[str, Any] = {
    "nodes": 2,
    "gpus_per_node": 2,
    "cpu": 8,
    "memory": "64Gi",
    "queue": "training",
    "priority_class": "long",
    "workspace_claim": "soundstage-workspace",
    "service_account": "trainer",
    "image": "registry.example/soundstage@sha256:" + "0" * 64,
    "node_selector": "{pool: h100}",
    "env": "{HF_HUB_OFFLINE: 1}",
    "secret_env": "{HF_TOKEN: hub/token}",
    "poll_sec": 0.02,
    "deadline_sec": 7200,
}


def job_for(root: Path, *overrides: str) -> TrainingJob:
    place = [f"launcher.trainjob.{name}={value}" for name, value in PLACE.items()]
    config = train_slice("launcher.kind=trainjob", "launcher.ranks=4", "launcher.grace_sec=1", *place, *overrides)
    return job_in(root / "payloads", config, root / "payloads" / "shards", None)
