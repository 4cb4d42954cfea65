"""What a TrainJob says, and what is refused before a cluster hears of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from soundstage.errors import ConfigError
from soundstage.training.launchers.trainjob_manifest import job_name, seen_from_pods, train_job

from .fake_cluster import SCHEMAS, judge
from .trainjob_jobs import job_for


@pytest.mark.skipif(not SCHEMAS.is_dir(), reason="CRDs are not in ../shared/k8s-schemas")
def test_the_manifest_says_what_is_configured_and_the_crd_allows_it(tmp_path: Path) -> None:
    bare = {f"launcher.trainjob.{name}={{}}" for name in ("env", "secret_env", "node_selector")}
    bare |= {f"launcher.trainjob.{name}=''" for name in ("cpu", "memory", "queue", "priority_class", "image")}
    bare |= {"launcher.trainjob.workspace_claim=''", "launcher.trainjob.service_account=''"}
    full = train_job(job_for(tmp_path), Path("/workspace/job.json"))
    assert judge().errors(full) == []
    assert judge().errors(train_job(job_for(tmp_path, *sorted(bare)), Path("/workspace/job.json"))) == []
    trainer = full["spec"]["trainer"]
    assert trainer["numNodes"] == trainer["numProcPerNode"] == 2
    amounts = {"nvidia.com/gpu": "2", "cpu": "8", "memory": "64Gi"}
    assert trainer["resourcesPerNode"] == {"limits": amounts, "requests": amounts}
    env = {each["name"]: each for each in trainer["env"]}
    assert env["HF_HUB_OFFLINE"]["value"] == "1"
    assert env["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"]["value"] == "1"
    assert env["HF_TOKEN"]["valueFrom"] == {"secretKeyRef": {"name": "hub", "key": "token"}}
    labels = full["metadata"]["labels"]
    assert labels["kueue.x-k8s.io/queue-name"] == "training"
    assert labels["kueue.x-k8s.io/priority-class"] == "long"
    (patch,) = full["spec"]["runtimePatches"]
    (replicated,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = replicated["template"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"pool": "h100"}
    assert pod["serviceAccountName"] == "trainer"
    assert pod["containers"][0]["volumeMounts"] == [{"name": "soundstage-workspace", "mountPath": "/workspace"}]
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "soundstage-workspace"}


def test_ranks_that_do_not_fill_the_nodes_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"launcher\.ranks=3 is not launcher\.trainjob\.nodes=2 times gpus_per_node=2"
    ):
        job_for(tmp_path, "launcher.ranks=3")
    with pytest.raises(ConfigError, match=r"launcher\.ranks=3 cannot be divided among launcher\.trainjob\.nodes=2"):
        job_for(tmp_path, "launcher.ranks=3", "launcher.trainjob.gpus_per_node=0")
    with pytest.raises(ConfigError, match=r"PET_NNODES: PET_ variables are Kubeflow Trainer's"):
        job_for(tmp_path, "launcher.trainjob.env={PET_NNODES: '2'}")


def test_what_pods_cannot_see_is_refused_by_name(tmp_path: Path) -> None:
    job = job_for(tmp_path)
    with pytest.raises(ConfigError, match=r"shards is /data, outside of the workspace .*"):
        seen_from_pods(job.model_copy(update={"shards": Path("/data")}), tmp_path)
    (tmp_path / "model").mkdir()
    local = job_for(tmp_path, f"model.backbone.pretrained={tmp_path / 'model'}")
    with pytest.raises(ConfigError, match=r"model\.backbone\.pretrained=.* is a folder here, which pods do not see"):
        seen_from_pods(local, tmp_path)
    same = job_for(
        tmp_path, f"model.backbone.pretrained={tmp_path / 'model'}", f"launcher.trainjob.workspace_path={tmp_path}"
    )
    assert seen_from_pods(same, tmp_path) == same


def test_the_name_is_that_of_the_work_and_fits(tmp_path: Path) -> None:
    name = job_name(job_for(tmp_path))
    # With other ranks or resources it is the same work, on the same checkpoints.
    assert job_name(job_for(tmp_path, "launcher.trainjob.memory=1Gi")) == name
    assert job_name(job_for(tmp_path / "other")) != name
    # Its pods' host names must fit into the 63 characters of a DNS label.
    assert len(f"{name}-node-0-999") <= 63
