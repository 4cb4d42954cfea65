"""A Kubernetes API server over real HTTP that holds TrainJobs and pods in memory and answers in the real shapes.

TrainJobs are judged as the real one does when asked for strict field validation: by the published CRD, from
../shared/k8s-schemas. What the controllers would do is scripted: a test gives the steps, and each look at the TrainJob
lets one happen.
"""

from __future__ import annotations

import copy
import importlib.util
import itertools
import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jsonschema
import yaml

SCHEMAS = Path(__file__).parents[4] / "shared" / "k8s-schemas"
_TRAINJOBS = re.compile(r"^/apis/trainer\.kubeflow\.org/v1alpha1/namespaces/([^/]+)/trainjobs(?:/([^/]+))?$")
_PODS = re.compile(r"^/api/v1/namespaces/([^/]+)/pods(?:/([^/]+)(/log)?)?$")
_SECONDS = itertools.count(1)
_NOW = "2026-11-25T00:00:00Z"


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
        self.ended = f"2026-11-25T00:{next(_SECONDS):02d}:00Z"

    def manifest(self) -> dict[str, Any]:
        """As the API server tells it."""
        over = {"exitCode": self.exit_code, "reason": self.reason, "startedAt": _NOW, "finishedAt": self.ended}
        state = {"running": {"startedAt": _NOW}} if self.phase == "Running" else {"terminated": over}
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
        conditions.append(told | {"lastTransitionTime": _NOW})

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

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve; yields the address."""
        server = _Server(("127.0.0.1", 0), _Handler)
        server.cluster = self
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def kubeconfig(path: Path, address: str) -> Path:
    """A kubeconfig file for the server at `address`."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "fake",
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
        "clusters": [{"name": "fake", "cluster": {"server": address}}],
        "users": [{"name": "fake", "user": {}}],
    }
    path.write_text(yaml.safe_dump(config))
    return path


def _status(code: int, reason: str, message: str) -> dict[str, Any]:
    told = {"status": "Failure", "message": message, "reason": reason, "code": code}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}} | told


class _Server(ThreadingHTTPServer):
    cluster: FakeCluster
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def _cluster(self) -> FakeCluster:
        assert isinstance(self.server, _Server)
        return self.server.cluster

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def _answer(self, method: str) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        jobs, pods = _TRAINJOBS.match(parts.path), _PODS.match(parts.path)
        with self._cluster.lock:
            self._cluster.requests.append((method, parts.path, query))
            if self._is_out():
                return
            if jobs:
                self._send(*self._trainjobs(method, jobs[2], query, body))
            elif pods and not pods[3]:
                self._send(*self._pods(pods[2], query))
        if pods and pods[3]:  # without the lock: it streams for as long as its pod lives
            self._log(pods[2], query)
        elif not jobs and not pods:
            self._send(404, _status(404, "NotFound", "the server could not find the requested resource"))

    def _is_out(self) -> bool:
        """Answer as a server that cannot now, when the test says so."""
        if self._cluster.drops > 0:
            self._cluster.drops -= 1
            self.close_connection = True
            return True
        if self._cluster.refusals > 0:
            self._cluster.refusals -= 1
            self._send(503, _status(503, "ServiceUnavailable", "the server is currently unable to handle the request"))
            return True
        return False

    def _send(self, code: int, value: dict[str, Any]) -> None:
        text = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _trainjobs(
        self, method: str, name: str | None, query: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, Any]]:
        if method == "POST":
            return self._create(json.loads(body), query)
        assert name is not None
        if name not in self._cluster.jobs:
            return 404, _status(404, "NotFound", f'trainjobs.trainer.kubeflow.org "{name}" not found')
        found = self._cluster.jobs[name]
        if method == "DELETE":
            found["metadata"]["deletionTimestamp"] = _NOW
            found["metadata"]["finalizers"] = ["foregroundDeletion"]
            return 200, found
        if "deletionTimestamp" in found["metadata"]:
            if self._cluster.deletion_takes == 0:
                self._cluster.pods = []
                del self._cluster.jobs[name]
                return 404, _status(404, "NotFound", f'trainjobs.trainer.kubeflow.org "{name}" not found')
            self._cluster.deletion_takes -= 1
        elif self._cluster.looks:
            self._cluster.looks.pop(0)()
        return 200, copy.deepcopy(self._cluster.jobs.get(name, found))

    def _create(self, manifest: dict[str, Any], query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        name = manifest["metadata"]["name"]
        errors = (
            self._cluster.judge.errors(manifest)
            if self._cluster.judge and query.get("fieldValidation") == "Strict"
            else []
        )
        if errors:
            message = f'TrainJob in version "v1alpha1" cannot be handled as a TrainJob: {"; ".join(errors)}'
            return 400, _status(400, "BadRequest", message)
        if name in self._cluster.jobs:
            return 409, _status(409, "AlreadyExists", f'trainjobs.trainer.kubeflow.org "{name}" already exists')
        manifest["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": _NOW, "generation": 1}
        self._cluster.jobs[name] = manifest
        return 201, manifest

    def _pods(self, name: str | None, query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        if name is None:
            key, _, value = query["labelSelector"].partition("=")
            found = [pod.manifest() for pod in self._cluster.pods]
            items = [pod for pod in found if pod["metadata"]["labels"].get(key) == value]
            return 200, {
                "kind": "PodList",
                "apiVersion": "v1",
                "metadata": {"resourceVersion": "1"},
                "items": items,
            }
        for pod in self._cluster.pods:
            if pod.name == name:
                return 200, pod.manifest()
        return 404, _status(404, "NotFound", f'pods "{name}" not found')

    def _log(self, name: str, query: dict[str, str]) -> None:
        """Chunks, a line each, until the pod is over: as `follow` and `timestamps` ask for."""
        assert query["follow"].lower() == query["timestamps"].lower() == "true"
        pod = next((each for each in self._cluster.pods if each.name == name), None)
        if pod is None:
            self._send(404, _status(404, "NotFound", f'pods "{name}" not found'))
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        sent = 0
        while pod in self._cluster.pods:
            over = pod.phase != "Running"
            for stamp, line in pod.lines[sent:]:
                sent += 1
                if sent == self._cluster.cut_log_after:
                    self._cluster.cut_log_after = 0
                    self._chunk(f"{stamp} {line[:2]}")
                    self.close_connection = True
                    return
                self._chunk(f"{stamp} {line}\n")
            if over:
                break
            time.sleep(0.01)
        self._chunk("")

    def _chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()
