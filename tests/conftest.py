"""What all tests share: no variable of the caller's shell reaches them, and nothing is told to anyone outside."""

from __future__ import annotations

import os

import pytest

for _name in [name for name in os.environ if name.startswith("SOUNDSTAGE_")]:
    del os.environ[_name]
os.environ.update(
    DVC_NO_ANALYTICS="1",
    GX_ANALYTICS_ENABLED="false",
    MLFLOW_DISABLE_TELEMETRY="true",
)


@pytest.fixture(autouse=True)
def _run_in_empty_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that writes to the working directory by mistake must not find, or leave, anything in the clone."""
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))
