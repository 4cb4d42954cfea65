"""Training as a TrainJob, over real HTTP against an API server that judges by the published CRD."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from soundstage.errors import ConfigError, TrainingError
from soundstage.stages import NullTracker
from soundstage.training.follow import run_job
from soundstage.training.heartbeat import beat
from soundstage.training.job import TrainingJob
from soundstage.training.launchers.choice import launcher_of
from soundstage.training.launchers.trainjob import TrainJobLauncher
from soundstage.training.launchers.trainjob_manifest import job_name, seen_from_pods, train_job

from .fake_api_server import kubeconfig, serving
from .fake_cluster import SCHEMAS, FakeCluster
from .trainjob_jobs import job_for


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    made = FakeCluster()
    if made.judge is None:
        warnings.warn("../shared/k8s-schemas is not there: no manifest is judged by the CRD", stacklevel=1)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with serving(made) as address:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "kubeconfig", address)))
        yield made


class Heard(NullTracker):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        self.losses.append(metrics["loss"])


def launched(job: TrainingJob, root: Path) -> TrainJobLauncher:
    job.scratch.mkdir(parents=True, exist_ok=True)
    made = launcher_of(job, root)
    assert isinstance(made, TrainJobLauncher)
    return made


def until_it_ends(launcher: TrainJobLauncher) -> int:
    while (code := launcher.poll()) is None:
        pass
    return code


def until_sigterm(launcher: TrainJobLauncher) -> None:
    with launcher:
        while not launcher.is_running():
            assert launcher.poll() is None
        raise SystemExit(143)


def test_a_job_waits_runs_is_followed_and_completes(
    tmp_path: Path, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POD_NAME", "step-1")
    monkeypatch.setenv("POD_UID", "b4a1")
    job, heard = job_for(tmp_path, "launcher.trainjob.workspace_path=/elsewhere"), Heard()

    def train() -> None:
        (job.scratch / "metrics.jsonl").write_text('{"step": 1, "loss": 2.5}\n')
        for pod in cluster.pods:
            pod.say(f"hello of {pod.index}")

    def end() -> None:
        (job.out / "curves.json").write_text("{}")
        cluster.pods[1].say("goodbye")
        cluster.complete()

    cluster.looks = [cluster.suspend, lambda: cluster.start_pods(2, "Pending"), cluster.resume]
    cluster.looks += [lambda: cluster.start_pods(2), train, lambda: None, end]
    run_job(job, heard, tmp_path)
    assert heard.losses == [2.5]
    said = capsys.readouterr().out
    states = ["created", "waits for its turn (TrainJob is suspended)", "0 of 2 pods run", "2 of 2 pods run", "Complete"]
    places = [said.index(f": {state}") for state in states]
    assert places == sorted(places)
    log = (job.scratch / "log.txt").read_text().splitlines()
    name = job_name(seen_from_pods(job, tmp_path))
    wanted = [f"{name}-node-0-{n}-abcde| hello of {n}" for n in range(2)] + [f"{name}-node-0-1-abcde| goodbye"]
    assert sorted(log) == sorted(wanted)
    assert [query["fieldValidation"] for query in cluster.asked("POST")] == ["Strict"]
    assert cluster.asked("DELETE") == []
    owner = cluster.jobs[name]["metadata"]["ownerReferences"]
    assert owner == [{"apiVersion": "v1", "kind": "Pod", "name": "step-1", "uid": "b4a1"}]
    # Pods read the job from the workspace where they see it.
    assert cluster.jobs[name]["spec"]["trainer"]["args"][-1] == "/elsewhere/payloads/scratch/job.json"
    seen = json.loads((job.scratch / "job.json").read_text())
    assert {seen[key].split("/payloads")[0] for key in ("shards", "out", "scratch")} == {"/elsewhere"}


def test_a_failure_names_pod_ranks_and_last_words(tmp_path: Path, cluster: FakeCluster) -> None:
    job = job_for(tmp_path)

    def die() -> None:
        cluster.pods[0].say("step 1", "soundstage: DataError: shard 3 is gone")
        cluster.pods[1].say("      rank      : 3 (local_rank: 1)", "  exitcode  : -9 (pid: 71)  (SIGKILL)")
        cluster.pods[1].end(137, "OOMKilled")
        cluster.fail()

    cluster.looks = [lambda: cluster.start_pods(2), lambda: None, die]
    with pytest.raises(TrainingError) as caught:
        run_job(job, NullTracker(), tmp_path)
    name = job_name(seen_from_pods(job, tmp_path))
    assert str(caught.value).splitlines()[:4] == [
        "backbone ended with exit code 1 after step 0: FailedJobs: jobset failed due to one or more job failures",
        f"pod {name}-node-0-1-abcde (ranks 2 to 3) ended with exit code 137, OOMKilled",
        "rank 3 (process 71) was killed by signal 9 (SIGKILL), as the kernel does when memory runs out",
        "DataError: shard 3 is gone",
    ]


def test_a_job_over_its_deadline_failed(tmp_path: Path, cluster: FakeCluster) -> None:
    job = job_for(tmp_path)
    cluster.looks = [
        cluster.start_pods,
        lambda: cluster.fail("DeadlineExceeded", "TrainJob exceeded its active deadline"),
    ]
    with pytest.raises(TrainingError, match="DeadlineExceeded: TrainJob exceeded its active deadline"):
        run_job(job, NullTracker(), tmp_path)
    (made,) = cluster.jobs.values()
    assert made["spec"]["activeDeadlineSeconds"] == 7200


def test_cancelling_deletes_the_job_and_waits_until_its_pods_are_gone(tmp_path: Path, cluster: FakeCluster) -> None:
    job = job_for(tmp_path)
    cluster.deletion_takes = 3
    cluster.looks = [lambda: cluster.start_pods(2)]
    launcher = launched(job, tmp_path)
    with pytest.raises(SystemExit):
        until_sigterm(launcher)
    assert [query["propagationPolicy"] for query in cluster.asked("DELETE")] == ["Foreground"]
    assert cluster.jobs == {}
    assert cluster.deletion_takes == 0
    (patch,) = train_job(job, Path("/job"))["spec"]["runtimePatches"]
    (replicated,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    # Pods get the time to save that the launcher waits, and some for torchrun to end.
    assert replicated["template"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 11


def test_a_job_that_still_goes_on_is_followed_and_one_that_ended_or_differs_is_replaced(
    tmp_path: Path, cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    first = launched(job_for(tmp_path), tmp_path)
    first.__enter__()  # its process is then killed: nobody leaves the with-block
    (before,) = (dict(job["metadata"]) for job in cluster.jobs.values())
    cluster.looks = [lambda: None, cluster.start_pods, cluster.fail]
    with launched(job_for(tmp_path), tmp_path) as second:
        assert until_it_ends(second) == 1
    assert "was still going and is followed" in capsys.readouterr().out
    assert [job["metadata"]["uid"] for job in cluster.jobs.values()] == [before["uid"]]

    cluster.looks = []
    third = launched(job_for(tmp_path), tmp_path)
    third.__enter__()
    assert "an earlier one is removed first" in capsys.readouterr().out
    (other,) = cluster.jobs.values()
    assert other["metadata"]["uid"] != before["uid"]
    assert other["metadata"]["name"] == before["name"]
    launched(job_for(tmp_path, "launcher.trainjob.memory=128Gi"), tmp_path).__enter__()
    (last,) = cluster.jobs.values()
    assert last["metadata"]["uid"] != other["metadata"]["uid"]
    assert last["spec"]["trainer"]["resourcesPerNode"]["limits"]["memory"] == "128Gi"
    assert len(cluster.asked("POST")) == 3


def test_a_hung_rank_ends_the_job_with_its_name_once_pods_run(tmp_path: Path, cluster: FakeCluster) -> None:
    job = job_for(tmp_path, "launcher.hang_sec=0.7")

    def move() -> None:
        for rank in (0, 1, 3):
            beat(job.scratch, rank, 5)

    # It waits in the queue for longer than a rank may.
    cluster.looks = [cluster.suspend, *[lambda: None] * 3, cluster.resume, lambda: cluster.start_pods(2), *[move] * 99]
    with pytest.raises(
        TrainingError, match=r"was ended \(TrainJob soundstage/soundstage-backbone-\w+\) .*: rank 2 has "
    ):
        run_job(job, NullTracker(), tmp_path)
    assert cluster.jobs == {}
    assert len(cluster.looks) < 99, "it was ended in the queue"


def test_an_outage_is_lived_through_and_no_line_of_the_log_is_lost_or_doubled(
    tmp_path: Path, cluster: FakeCluster
) -> None:
    lines = [f"line {number}" for number in range(40)]

    def outage() -> None:
        cluster.refusals, cluster.drops = 4, 2

    def end() -> None:
        cluster.pods[0].say(*lines[20:])
        cluster.complete()

    def start() -> None:
        cluster.start_pods()
        cluster.cut_log_after = 11
        cluster.pods[0].say(*lines[:20])

    cluster.refusals = 1  # of the first question
    cluster.looks = [start, lambda: None, outage, *[lambda: None] * 8, end]
    job = job_for(tmp_path)
    with launched(job, tmp_path) as launcher:
        assert until_it_ends(launcher) == 0
    said = [line.partition("| ")[2] for line in (job.scratch / "log.txt").read_text().splitlines()]
    assert said == lines
    assert cluster.refusals == cluster.drops == 0


def test_an_outage_that_lasts_ends_the_stage(
    tmp_path: Path, cluster: FakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    job = job_for(tmp_path, "launcher.trainjob.outage_sec=0.6")
    launcher = launched(job, tmp_path)
    cluster.looks = [lambda: setattr(cluster, "refusals", 10**6)]
    with pytest.raises(TrainingError, match=r"could not be used for 1 s: 503 .* may still run there"), launcher:
        until_it_ends(launcher)
    assert "Do it by hand: kubectl -n soundstage delete trainjob soundstage-backbone-" in caplog.text


def test_a_job_that_somebody_deletes_is_not_taken_for_complete(tmp_path: Path, cluster: FakeCluster) -> None:
    cluster.looks = [cluster.jobs.clear]
    launcher = launched(job_for(tmp_path), tmp_path)
    with launcher, pytest.raises(TrainingError, match="was deleted by somebody else"):
        until_it_ends(launcher)


@pytest.mark.skipif(not SCHEMAS.is_dir(), reason="CRDs are not in ../shared/k8s-schemas")
@pytest.mark.parametrize(
    ("place", "key", "value", "message"),
    [
        (["spec", "trainer"], "numNode", 2, "numNode"),
        (["spec"], "podSpecOverrides", [], "podSpecOverrides"),
        (["spec", "trainer"], "numProcPerNode", "auto", "'auto' is not of type 'integer'"),
        (["spec", "runtimePatches", 0, "trainingRuntimeSpec", "template", "spec"], "image", "i", "image"),
    ],
    ids=["misspelt", "of an older version", "of another type", "not patchable"],
)
def test_a_field_that_the_server_does_not_know_is_refused(
    tmp_path: Path, cluster: FakeCluster, place: list[Any], key: str, value: Any, message: str
) -> None:
    launcher = launched(job_for(tmp_path), tmp_path)
    at = launcher._manifest
    for step in place:
        at = at[step]
    at[key] = value
    with pytest.raises(ConfigError, match=rf"refused to create TrainJob .* \(400\): .*{message}"), launcher:
        pass
    assert cluster.jobs == {}


@pytest.mark.parametrize("in_pod", [False, True], ids=["outside", "in a pod without a token"])
def test_no_cluster_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_pod: bool) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    if in_pod:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"found no cluster: .* name a kubeconfig in \$KUBECONFIG"):
        launched(job_for(tmp_path), tmp_path)
