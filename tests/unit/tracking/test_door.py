from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

from soundstage.config.tree import TrackingConfig
from soundstage.errors import ConfigError
from soundstage.stages import Workspace
from soundstage.tracking.door import MetricSample, Place, as_current, clean_key, open_place


def test_default_place_is_inside_the_workspace(home: Workspace) -> None:
    place = open_place(home, TrackingConfig())
    assert place.uri == f"sqlite:///{home.tracking}/mlflow.db"
    experiment = place.client.get_experiment(place.experiment_id)
    assert experiment.name == "soundstage"
    assert experiment.artifact_location == (home.tracking / "artifacts").as_uri()


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("some/folder", "no longer keeps runs in plain folders"),
        ("file:///some/folder", "no longer keeps runs in plain folders"),
        (f"http://127.0.0.1:{_closed_port()}", "nothing answers at 127.0.0.1"),
        ("sqlite:////proc/nowhere/mlflow.db", "cannot be opened"),
        ("carrier-pigeon://loft", "cannot be opened"),
        ("postgresql+psycopg2://me:secret@host/db", "PGPASSWORD"),
    ],
)
def test_unusable_uri_is_a_clear_error(workspace: Workspace, uri: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(reason)) as caught:
        open_place(workspace, TrackingConfig(uri=uri))
    assert "tracking.uri=" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_more_params_tags_and_metrics_than_one_request_takes(place: Place) -> None:
    run = place.client.create_run(place.experiment_id).info.run_id
    place.log_params(run, {f"p.{i}": "x" * 7000 for i in range(230)})
    place.set_tags(run, {f"t.{i}": "y" * 9000 for i in range(130)})
    place.log_metrics(run, [MetricSample("loss", float(i), 1_700_000_000_000 + i, i) for i in range(2300)])
    data = place.client.get_run(run).data
    assert len(data.params) == 230
    assert sum(key.startswith("t.") for key in data.tags) == 130
    assert [m.value for m in place.client.get_metric_history(run, "loss")] == [float(i) for i in range(2300)]


def test_metric_names_that_mlflow_refuses_are_cleaned(place: Place) -> None:
    assert clean_key("fvd[i3d]") == "fvd_i3d"
    assert clean_key("motion_corr/true.mean") == "motion_corr/true.mean"
    run = place.client.create_run(place.experiment_id).info.run_id
    place.log_metrics(run, [MetricSample("fvd[i3d]", 2.5, 1, 0)])
    assert place.client.get_run(run).data.metrics == {"fvd_i3d": 2.5}


def test_current_place_is_put_back(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import mlflow

    monkeypatch.chdir(tmp_path)
    before = os.environ.get("MLFLOW_TRACKING_URI")
    with as_current(place):
        assert mlflow.get_tracking_uri() == place.uri
    assert os.environ.get("MLFLOW_TRACKING_URI") == before
    assert not (tmp_path / "mlflow.db").exists()
