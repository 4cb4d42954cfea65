"""A Kubernetes API server over real HTTP: a `FakeCluster` told in the shapes of the real one.

TrainJobs are judged as the real server does when asked for strict field validation, by the CRD in
../shared/k8s-schemas.
"""

from __future__ import annotations

import copy
import json
import re
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from .fake_cluster import NOW, FakeCluster

_TRAINJOBS = re.compile(r"^/apis/trainer\.kubeflow\.org/v1alpha1/namespaces/([^/]+)/trainjobs(?:/([^/]+))?$")
_PODS = re.compile(r"^/api/v1/namespaces/([^/]+)/pods(?:/([^/]+)(/log)?)?$")


@contextmanager
def serving(cluster: FakeCluster) -> Iterator[str]:
    """Serve; yields the address."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.cluster = cluster
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


class _Server(ThreadingHTTPServer):
    cluster: FakeCluster
    daemon_threads = True


def _status(code: int, reason: str, message: str) -> dict[str, Any]:
    told = {"status": "Failure", "message": message, "reason": reason, "code": code}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}} | told


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
            found["metadata"]["deletionTimestamp"] = NOW
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
        manifest["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": NOW, "generation": 1}
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
