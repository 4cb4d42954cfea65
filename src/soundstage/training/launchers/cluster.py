"""The one door to the Kubernetes API: TrainJobs, their pods and their logs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from ...errors import ConfigError, TrainingError
from .trainjob_manifest import CONTAINER

T = TypeVar("T")
_KIND = {"group": "trainer.kubeflow.org", "version": "v1alpha1", "plural": "trainjobs"}
_TIMEOUT_SEC = (5, 30)
"""to connect, to answer"""
_SILENT_LOG_SEC = 300
_FIRST_WAIT_SEC, _LAST_WAIT_SEC = 0.5, 30.0
# What a server says that is overloaded, restarting or behind a proxy, or that has lost its history.
_LATER = {408, 410, 429, 500, 502, 503, 504}


class Outage(Exception):  # noqa: N818 - a state of the API server, not a verdict on the request
    """The API server did not answer, or said that it cannot now; the same request may be made again."""


class Conflict(Exception):  # noqa: N818 - an answer that the caller expects
    """An object of this name exists."""


class Cluster:
    """A namespace of a cluster: of the one this pod runs in, else of the current kubeconfig."""

    def __init__(self, namespace: str, outage_sec: float) -> None:
        from kubernetes import client, config

        self.namespace, self._outage_sec = namespace, outage_sec
        configuration = client.Configuration()
        try:
            if "KUBERNETES_SERVICE_HOST" in os.environ:
                config.load_incluster_config(configuration)
            else:
                # Read here: the library looks at the variable once, when it is imported.
                config.load_kube_config(os.environ.get("KUBECONFIG"), client_configuration=configuration)
        except config.ConfigException as error:
            raise ConfigError(
                f"launcher.kind=trainjob found no cluster: {error}. Run in a pod, or name a kubeconfig in $KUBECONFIG"
            ) from error
        # We ask again ourselves, with pauses: the library would do it at once, and warn of each.
        configuration.retries = False
        api = client.ApiClient(configuration)
        self._objects, self._core = client.CustomObjectsApi(api), client.CoreV1Api(api)

    def get(self, name: str) -> dict[str, Any] | None:
        """The TrainJob called `name`; None when there is none."""
        place = {"namespace": self.namespace, "name": name, "_request_timeout": _TIMEOUT_SEC}
        with _asking(f"read TrainJob {name}"):
            return _unless_missing(lambda: dict(self._objects.get_namespaced_custom_object(**_KIND, **place)))

    def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Make a TrainJob; a field that the server does not know is refused, not dropped.

        Raises:
            Conflict: there is one of this name.
            ConfigError: the server refused it.
        """
        with _asking(f"create TrainJob {manifest['metadata']['name']}"):
            return dict(
                self._objects.create_namespaced_custom_object(
                    **_KIND,
                    namespace=self.namespace,
                    body=manifest,
                    field_validation="Strict",
                    _request_timeout=_TIMEOUT_SEC,
                )
            )

    def delete(self, name: str) -> None:
        """Begin to delete a TrainJob: it stays visible until its pods have ended."""
        place = {"namespace": self.namespace, "name": name, "_request_timeout": _TIMEOUT_SEC}
        how = {"propagation_policy": "Foreground"}
        with _asking(f"delete TrainJob {name}"):
            _unless_missing(lambda: self._objects.delete_namespaced_custom_object(**_KIND, **place, **how))

    def pods(self, name: str) -> list[Any]:
        """The pods (V1Pod) of a TrainJob, by completion index."""
        with _asking(f"list the pods of TrainJob {name}"):
            found = self._core.list_namespaced_pod(
                self.namespace,
                label_selector=f"jobset.sigs.k8s.io/jobset-name={name}",
                _request_timeout=_TIMEOUT_SEC,
            )
        return sorted(found.items, key=lambda pod: (pod_index(pod), pod.metadata.name))

    def has_ended(self, pod: str) -> bool:
        """Whether a pod is over or gone."""
        place = {"namespace": self.namespace, "name": pod, "_request_timeout": _TIMEOUT_SEC}
        with _asking(f"read pod {pod}"):
            found = _unless_missing(lambda: self._core.read_namespaced_pod(**place))
        return found is None or found.status.phase in {"Succeeded", "Failed"}

    @contextmanager
    def log(self, pod: str, since_sec: int | None) -> Iterator[Any]:
        """The log of a pod's trainer as it grows, each line after its time: an open urllib3 response."""
        with _asking(f"read the log of pod {pod}"):
            response = self._core.read_namespaced_pod_log(
                pod,
                self.namespace,
                container=CONTAINER,
                follow=True,
                timestamps=True,
                **({} if since_sec is None else {"since_seconds": since_sec}),
                _preload_content=False,
                _request_timeout=(_TIMEOUT_SEC[0], _SILENT_LOG_SEC),
            )
            try:
                yield response
            finally:
                response.close()

    def patiently(self, request: Callable[[], T]) -> T:
        """The answer to `request`, asked again through outages with growing pauses.

        Raises:
            TrainingError: the outage lasts too long.
        """
        end, wait = time.monotonic() + self._outage_sec, _FIRST_WAIT_SEC
        while True:
            try:
                return request()
            except Outage as outage:
                if time.monotonic() + wait > end:
                    raise silent(outage, self._outage_sec) from outage
                time.sleep(wait)
                wait = next_wait(wait)


def next_wait(wait: float) -> float:
    """The pause after one of `wait` seconds."""
    return min(2 * wait, _LAST_WAIT_SEC)


def silent(outage: Outage, seconds: float) -> TrainingError:
    """The error of an outage that lasts too long."""
    return TrainingError(
        f"the Kubernetes API server could not be used for {seconds:.0f} s: {outage}. A TrainJob may still run "
        "there; running the stage again follows it or starts it anew"
    )


def pod_index(pod: Any) -> int:
    """The pod's place in its job, which is its node rank."""
    return int((pod.metadata.labels or {}).get("batch.kubernetes.io/job-completion-index", 0))


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """Turn the client's errors into ours."""
    import urllib3
    from kubernetes.client import ApiException

    try:
        yield
    except ApiException as error:
        if error.status in _LATER or not error.status:
            raise Outage(f"{error.status} {error.reason}") from error
        if error.status == 409:
            raise Conflict(what) from error
        raise ConfigError(f"the Kubernetes API server refused to {what} ({error.status}): {_said(error)}") from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Outage(str(error)) from error


def _unless_missing(request: Callable[[], T]) -> T | None:
    from kubernetes.client import ApiException

    try:
        return request()
    except ApiException as error:
        if error.status != 404:
            raise
        return None


def _said(error: Any) -> str:
    with suppress(ValueError, KeyError, TypeError):
        return str(json.loads(error.body)["message"])
    return str(error.reason)
