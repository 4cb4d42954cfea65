"""Pods of a cluster, started by Kubeflow Trainer from a TrainJob and queued by Kueue."""

from __future__ import annotations

import logging
import time
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from ...errors import SoundstageError, TrainingError
from ..job import TrainingJob
from . import report
from .base import EXIT_MARGIN_SEC
from .cluster import Cluster, Conflict, Outage, next_wait, pod_index, silent
from .pod_logs import PodLogs
from .trainjob_manifest import HASH, job_name, train_job

_log = logging.getLogger(__name__)
_LOG_END_SEC = 15.0
_GONE_MARGIN_SEC = 60.0
"""What the cluster takes to remove pods that have ended, and the objects above them."""


class TrainJobLauncher:
    """Creates the TrainJob, or follows it where it still goes on; on leaving the with-block it has ended or is deleted.

    A TrainJob of the same name is another launch of the same work, whose launcher is gone: made from the same settings
    it is followed; made from others, or ended, it is replaced, so that never two write the same checkpoints.
    """

    def __init__(self, job: TrainingJob, job_file: Path, log: Path) -> None:
        """`job` and `job_file` as pods see them, `log` as this process does."""
        self._place, self._grace_sec = job.config.launcher.trainjob, job.config.launcher.grace_sec
        self._manifest = train_job(job, job_file)
        self._job_name, self._ranks_per_pod = job_name(job), job.config.launcher.ranks // self._place.nodes
        self.name = f"TrainJob {self._place.namespace}/{self._job_name}"
        self._log = log
        self._cluster = Cluster(self._place.namespace, self._place.outage_sec)
        self._logs: PodLogs | None = None
        self._uid, self._ended, self._running = "", False, False
        self._words: list[str] = []
        self._dead_pods: dict[str, tuple[datetime, str]] = {}
        self._said = ""
        self._next_look, self._silent_since, self._wait = 0.0, 0.0, self._place.poll_sec

    def __enter__(self) -> TrainJobLauncher:
        found = self._cluster.patiently(lambda: self._cluster.get(self._job_name))
        if found is not None and not self._is_mine(found):
            self._say("an earlier one is removed first")
            self._remove(found["metadata"]["uid"])
            found = None
        self._uid = (found or self._cluster.patiently(self._create))["metadata"]["uid"]
        self._say("was still going and is followed" if found else "created")
        self._logs = PodLogs(self._cluster, self._log, self._place.poll_sec)
        return self

    def _is_mine(self, found: dict[str, Any]) -> bool:
        about = found["metadata"]
        made_alike = about.get("annotations", {}).get(HASH) == self._manifest["metadata"]["annotations"][HASH]
        return made_alike and "deletionTimestamp" not in about and _end_of(found) is None

    def _create(self) -> dict[str, Any]:
        try:
            return self._cluster.create(self._manifest)
        except Conflict as conflict:
            # An earlier request of ours may have arrived although its answer was lost.
            found = self._cluster.get(self._job_name)
            if found is None or not self._is_mine(found):
                raise TrainingError(
                    f"{self.name} was created by somebody else at this moment; run the stage again"
                ) from conflict
            return found

    def poll(self) -> int | None:
        """0 when the TrainJob is Complete, 1 when it is Failed; asks the server every `trainjob.poll_sec` only.

        Raises:
            TrainingError: somebody deleted the job, or the server was silent for `trainjob.outage_sec`.
        """
        now = time.monotonic()
        if now < self._next_look:
            return None
        try:
            code = self._look()
        except Outage as outage:
            self._silent_since = self._silent_since or now
            if now - self._silent_since > self._place.outage_sec:
                raise silent(outage, self._place.outage_sec) from outage
            self._wait = next_wait(self._wait)
        else:
            self._silent_since, self._wait = 0.0, self._place.poll_sec
            if code is not None:
                self._finish_logs(_LOG_END_SEC)
                return code
        self._next_look = time.monotonic() + self._wait
        return None

    def _look(self) -> int | None:
        found = self._cluster.get(self._job_name)
        if found is None or found["metadata"]["uid"] != self._uid:
            self._ended = True
            raise TrainingError(f"{self.name} was deleted by somebody else; running the stage again resumes")
        pods = self._cluster.pods(self._job_name)
        for pod in pods:
            self._look_at(pod)
        phases = [pod.status.phase for pod in pods]
        end = _end_of(found)
        up = phases.count("Running") + phases.count("Succeeded")
        self._running = end is None and "Running" in phases and up >= self._place.nodes
        if end is not None:
            self._ended = True
            self._words = [] if end["type"] == "Complete" else [f"{end['reason']}: {end['message']}"]
            self._say(f"{end['type']}: {end['message']}")
            return 0 if end["type"] == "Complete" else 1
        self._say(_state(found, phases, self._place.nodes))
        return None

    def _look_at(self, pod: Any) -> None:
        """Follow the pod's log once it has one, and note how it failed."""
        assert self._logs is not None
        if pod.status.phase in {"Running", "Succeeded", "Failed"}:
            self._logs.follow(pod.metadata.name)
        first = pod_index(pod) * self._ranks_per_pod
        for container in pod.status.container_statuses or []:
            ended = container.state.terminated
            if ended is not None and ended.exit_code != 0:
                ranks = (
                    f"ranks {first} to {first + self._ranks_per_pod - 1}"
                    if self._ranks_per_pod > 1
                    else f"rank {first}"
                )
                words = f"pod {pod.metadata.name} ({ranks}) ended with exit code {ended.exit_code}, {ended.reason}"
                self._dead_pods.setdefault(pod.metadata.name, (ended.finished_at, words))

    def is_running(self) -> bool:
        """Whether every pod ran at the last look."""
        return self._running

    def last_words(self) -> str:
        """Why the TrainJob failed, how the first pod ended, and what its ranks said last."""
        texts = self._logs.texts() if self._logs else []
        first = [words for _, words in sorted(self._dead_pods.values())[:1]]
        words = [*self._words, *first, report.last_words(texts)]
        return "\n".join(word for word in words if word)

    def kill(self) -> None:
        """Delete the job; a hung rank is killed when the grace period of its pod is over."""
        self._remove(self._uid)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self._ended:
                self._say("is cancelled: waiting for its pods to save and end")
                self._remove(self._uid)
        except SoundstageError as refused:
            # Not raised: it would hide why the job is left.
            by_hand = f"kubectl -n {self._place.namespace} delete trainjob {self._job_name}"
            _log.warning("%s could not be deleted: %s. Do it by hand: %s", self.name, refused, by_hand)
        finally:
            self._finish_logs(0.0)

    def _remove(self, uid: str) -> None:
        """Delete the job with all that belongs to it, and wait until it is gone."""
        self._cluster.patiently(lambda: self._cluster.delete(self._job_name))
        allowed = self._grace_sec + EXIT_MARGIN_SEC + _GONE_MARGIN_SEC
        end = time.monotonic() + allowed
        while self._is_there(uid):
            if time.monotonic() > end:
                raise TrainingError(
                    f"{self.name} is still there {allowed:.0f} s after it was deleted; see its finalizers and pods"
                )
            time.sleep(min(1.0, self._place.poll_sec))
        if uid == self._uid:
            self._ended, self._running = True, False

    def _is_there(self, uid: str) -> bool:
        found = self._cluster.patiently(lambda: self._cluster.get(self._job_name))
        return found is not None and found["metadata"]["uid"] == uid

    def _finish_logs(self, seconds: float) -> None:
        if self._logs is not None:
            self._logs.finish(seconds)

    def _say(self, state: str) -> None:
        if state != self._said:
            print(f"{self.name}: {state}", flush=True)
        self._said = state


def _end_of(found: dict[str, Any]) -> dict[str, Any] | None:
    """The condition that ends a TrainJob; None while it goes on."""
    return _condition(found, "Complete") or _condition(found, "Failed")


def _condition(found: dict[str, Any], kind: str) -> dict[str, Any] | None:
    conditions = found.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == kind and each["status"] == "True"), None)


def _state(found: dict[str, Any], phases: list[str], nodes: int) -> str:
    suspended = _condition(found, "Suspended")
    if suspended is not None:
        return f"waits for its turn ({suspended['message']})"
    return f"{phases.count('Running')} of {nodes} pods run"
