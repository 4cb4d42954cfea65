"""The one way to MLflow: opens the tracking place and speaks to it without touching MLflow's process-wide state.

MLflow keeps a current URI, a current run and a database in the working directory unless told otherwise; two places in
one process, or a run started from another folder, then mix silently. So every call here names its place. MLflow is
imported on first use: it costs seconds.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from ..config.tree import TrackingConfig
from ..errors import ConfigError
from ..stages.files import exclusive_lock
from ..stages.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Read by MLflow at import or at the call; a user's own setting wins. Its default of seven retries with growing pauses
# would hold a stage for minutes when the server goes away.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
for _name, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

_CHATTY_LOGGERS = ("alembic", "mlflow.store.db.utils", "mlflow.system_metrics.system_metrics_monitor")
_PROBE_SEC = 5.0
_DEFAULT_PORTS = {"http": 80, "https": 443}

# MLflow's own limits (mlflow/utils/validation.py, 3.17): entries of one request, characters of a value.
MAX_PARAMS, MAX_TAGS, MAX_METRICS = 100, 100, 1000
MAX_KEY_LENGTH, MAX_PARAM_LENGTH, MAX_TAG_LENGTH = 250, 6000, 8000
_FORBIDDEN_IN_KEY = re.compile(r"[^\w.\- /:]+")


class MetricSample(NamedTuple):
    """One metric value at one step."""

    key: str
    value: float
    timestamp_ms: int
    step: int


@dataclass(frozen=True)
class Place:
    """An opened tracking place: an experiment on a server or in a database."""

    uri: str
    experiment_id: str
    client: MlflowClient

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Log parameters in batches that MLflow accepts; longer values are cut."""
        from mlflow.entities import Param

        entities = [Param(clean_key(key), value[:MAX_PARAM_LENGTH]) for key, value in params.items()]
        for part in batches(entities, MAX_PARAMS):
            self.client.log_batch(run_id, params=part, synchronous=True)

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags in batches that MLflow accepts; longer values are cut."""
        from mlflow.entities import RunTag

        entities = [RunTag(clean_key(key), value[:MAX_TAG_LENGTH]) for key, value in tags.items()]
        for part in batches(entities, MAX_TAGS):
            self.client.log_batch(run_id, tags=part, synchronous=True)

    def log_metrics(self, run_id: str, samples: Iterable[MetricSample], model_id: str | None = None) -> None:
        """Log metric values, linked to a logged model when `model_id` is given."""
        from mlflow.entities import Metric

        entities = [Metric(clean_key(s.key), s.value, s.timestamp_ms, s.step, model_id=model_id) for s in samples]
        for part in batches(entities, MAX_METRICS):
            self.client.log_batch(run_id, metrics=part, synchronous=True)


def batches(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    """Consecutive parts of at most `size` items."""
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def clean_key(key: str) -> str:
    """`key` with characters that MLflow refuses replaced: `fvd[i3d]` becomes `fvd_i3d`."""
    return _FORBIDDEN_IN_KEY.sub("_", key).strip("_")[:MAX_KEY_LENGTH]


def place_uri(workspace: Workspace, tracking: TrackingConfig) -> str:
    """The tracking URI: the configured one, else SQLite inside the workspace."""
    return tracking.uri or f"sqlite:///{workspace.tracking / 'mlflow.db'}"


def open_place(workspace: Workspace, tracking: TrackingConfig) -> Place:
    """Open the tracking place, creating database and experiment on first use.

    Raises:
        ConfigError: the URI cannot be used, or nothing answers there.
    """
    uri = place_uri(workspace, tracking)
    _check_uri(uri)
    for name in _CHATTY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        # Two stages that start together would both create the tables.
        with exclusive_lock(workspace.tracking / ".create.lock"):
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            experiment_id = _experiment(client, uri, workspace, tracking.experiment)
    except (MlflowException, OSError) as error:
        raise ConfigError(_refusal(uri, f"{error}")) from error
    except Exception as error:  # SQLAlchemy's and its drivers' errors share no base class with MLflow's
        raise ConfigError(_refusal(uri, f"{type(error).__name__}: {error}")) from error
    return Place(uri, experiment_id, client)


def _experiment(client: MlflowClient, uri: str, workspace: Workspace, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        # A server knows where its artifacts go; a bare database would put them under the working directory.
        location = None if _is_server(uri) else (workspace.tracking / "artifacts").as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:
            # Another host may have created it since; if not, the first error is the true one.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise ConfigError(
            f"tracking.experiment={name!r} is deleted at {_without_password(uri)}; restore it there "
            "(`mlflow experiments restore`) or choose another name"
        )
    return str(found.experiment_id)


def _is_server(uri: str) -> bool:
    return urlsplit(uri).scheme in _DEFAULT_PORTS


def _check_uri(uri: str) -> None:
    parts = urlsplit(uri)
    if parts.password:
        raise ConfigError(
            f"tracking.uri={_without_password(uri)} holds a password, and the configuration is stored with every run; "
            "give it by environment: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD for a server, PGPASSWORD "
            "for Postgres"
        )
    if parts.scheme in ("", "file"):
        raise ConfigError(_refusal(uri, "MLflow no longer keeps runs in plain folders"))
    if parts.scheme in _DEFAULT_PORTS:
        _probe(uri, parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme])


def _probe(uri: str, host: str, port: int) -> None:
    try:
        socket.create_connection((host, port), timeout=_PROBE_SEC).close()
    except OSError as error:
        raise ConfigError(_refusal(uri, f"nothing answers at {host}:{port} ({error})")) from error


def _refusal(uri: str, reason: str) -> str:
    return (
        f"tracking.uri={_without_password(uri)} cannot be opened: {reason}; expected a running server "
        "(http://host:port), a database (sqlite:////absolute/path.db, postgresql+psycopg2://...), "
        "or no uri for SQLite inside the workspace"
    )


def _without_password(uri: str) -> str:
    return re.sub(r"//([^:/@]+):[^@]*@", r"//\1:***@", uri)


@contextmanager
def as_current(place: Place) -> Iterator[None]:
    """Make `place` MLflow's process-wide one for the few calls that read it, then put the former one back.

    `create_model_version` resolves its source through a default client, whatever client it is called on; with no
    current URI that client creates an empty database in the working directory (seen in 3.17.2).
    """
    import mlflow

    former = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(place.uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(former)
