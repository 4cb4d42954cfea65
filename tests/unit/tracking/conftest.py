"""One MLflow database for the whole folder (creating its tables takes seconds); a test has its own experiment."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from soundstage.config.tree import TrackingConfig
from soundstage.stages import Workspace
from soundstage.tracking.door import Place, open_place, place_uri


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace whose own SQLite tracking place exists."""
    workspace = Workspace.open(tmp_path_factory.mktemp("tracked"))
    open_place(workspace, TrackingConfig())
    return workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty workspace of this test."""
    return Workspace.open(tmp_path / "workspace")


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name of this test alone, for experiments and models."""
    return re.sub(r"[^\w-]+", "-", request.node.name)


@pytest.fixture
def tracking(home: Workspace, name: str) -> TrackingConfig:
    """The shared database, an experiment of this test."""
    return TrackingConfig(uri=place_uri(home, TrackingConfig()), experiment=name, system_metrics=False)


@pytest.fixture
def place(workspace: Workspace, tracking: TrackingConfig) -> Place:
    """The opened place of this test."""
    return open_place(workspace, tracking)
