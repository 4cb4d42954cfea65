"""What a Kubernetes API server would hold for the tests: TrainJobs and pods in memory, judged by the published CRD.

What the controllers would do is scripted: a test gives the steps, and each look at the TrainJob lets one happen.
"""

from __future__ import annotations

import importlib.util
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

SCHEMAS = Path(__file__).parents[4] / "shared" / "k8s-schemas"
_MINUTES = itertools.count(1)
NOW = "2026-11-25T00:00:00Z"


class Judge:
    """The published CRD of TrainJobs, with its CEL rules where a library for them is at hand."""

    def __init__(self) -> None:
        spec = importlib.util.spec_from_file_location("k8s_schemas_validate", SCHEMAS / "validate.py")
        assert spec is not None
        assert spec.loader is not None
        self._rules = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._rules)
        self._custom = self._rules.Custom()
        self._custom.add(
            yaml.load((SCHEMAS / "crds" / "trainer.kubeflow.org_trainjobs.yaml").read_text(), self._rules.StrictLoader)
        )
        self._key = ("trainer.kubeflow.org/v1alpha1", "TrainJob")

    def errors(self, manifest: dict[str, Any]) -> list[str]:
        """What a strict server would refuse, one line each."""
        validator = jsonschema.Draft202012Validator(self._custom.compiled(self._key))
        found = [f"{self._rules.where(error)}: {error.message}" for error in validator.iter_errors(manifest)]
        found += list(self._rules.object_errors(manifest))
        if self._rules.cel is not None and not found:
            raw = self._custom.kinds[self._key]["schema"]
            found += self._rules.cel_errors(raw, self._rules.defaulted(raw, manifest), "", {})
        return found


@cache
def judge() -> Judge:
    """One for all tests: the CRD takes seconds to read."""
    return Judge()


@dataclass
class Pod:
    """A pod and what it has printed: (time, line)."""

    name: str
    index: int
    job: str
    phase: str = "Running"
    exit_code: int = 0
    reason: str = "Completed"
    ended: str = ""
    lines: list[tuple[str, str]] = field(default_factory=list)

    def say(self, *lines: str) -> None:
        """Print lines, each at a time of its own."""
        for line in lines:
            self.lines.append((f"2026-11-25T00:00:00.{len(self.lines):09d}Z", line))

    def end(self, code: int = 0, reason: str = "Completed") -> None:
        """Be over."""
        self.phase, self.exit_code, self.reason = "Failed" if code else "Succeeded", code, reason
        minute = next(_MINUTES)
        self.ended = f"2026-11-25T{minute // 60:02d}:{minute % 60:02d}:00Z"

    def manifest(self) -> dict[str, Any]:
        """As the API server tells it."""
        over = {"exitCode": self.exit_code, "reason": self.reason, "startedAt": NOW, "finishedAt": self.ended}
        state = {"running": {"startedAt": NOW}} if self.phase == "Running" else {"terminated": over}
        status = {"name": "node", "image": "i", "imageID": "i", "ready": True, "restartCount": 0, "state": state}
        labels = {"jobset.sigs.k8s.io/jobset-name": self.job, "jobset.sigs.k8s.io/replicatedjob-name": "node"}
        labels["batch.kubernetes.io/job-completion-index"] = str(self.index)
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "namespace": "soundstage", "labels": labels, "uid": self.name},
            "spec": {"containers": [{"name": "node", "image": "i"}]},
            "status": {"phase": self.phase, "containerStatuses": [] if self.phase == "Pending" else [status]},
        }


class FakeCluster:
    """The server's state; `looks` are what happens at each further look at a TrainJob, one at a time."""

    def __init__(self) -> None:
        self.judge = judge() if SCHEMAS.is_dir() else None
        self.jobs: dict[str, dict[str, Any]] = {}
        self.pods: list[Pod] = []
        self.looks: list[Callable[[], None]] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.refusals = 0
        """answers 503 to so many further requests"""
        self.drops = 0
        """closes the connection without an answer for so many further requests"""
        self.cut_log_after = 0
        """ends the next log stream after so many lines, in the middle of a line; 0 never"""
        self.deletion_takes = 0
        """looks for which a deleted job stays visible, as it does while its pods end"""
        self.lock = threading.RLock()

    def start_pods(self, count: int = 1, phase: str = "Running") -> None:
        """What JobSet does."""
        (job,) = self.jobs
        self.pods = [Pod(f"{job}-node-0-{index}-abcde", index, job, phase) for index in range(count)]

    def condition(self, kind: str, status: str, reason: str, message: str) -> None:
        """What Trainer's controller does."""
        (job,) = self.jobs.values()
        conditions = job.setdefault("status", {}).setdefault("conditions", [])
        conditions[:] = [each for each in conditions if each["type"] != kind]
        told = {"type": kind, "status": status, "reason": reason, "message": message}
        conditions.append(told | {"lastTransitionTime": NOW})

    def suspend(self) -> None:
        self.condition("Suspended", "True", "Suspended", "TrainJob is suspended")

    def resume(self) -> None:
        self.condition("Suspended", "False", "Resumed", "TrainJob is resumed")

    def complete(self) -> None:
        for pod in self.pods:
            pod.end()
        self.condition("Complete", "True", "AllJobsCompleted", "jobset completed successfully")

    def fail(self, reason: str = "FailedJobs", message: str = "jobset failed due to one or more job failures") -> None:
        for pod in self.pods:
            if pod.phase == "Running":
                pod.end(143, "Error")
        if reason == "DeadlineExceeded":
            self.pods = []
        self.condition("Failed", "True", reason, message)

    def asked(self, method: str, path: str = "trainjobs") -> list[dict[str, str]]:
        """The query parameters of the requests of one kind."""
        return [query for found, where, query in self.requests if found == method and path in where]
