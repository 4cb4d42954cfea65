"""Tiny checkpoints on disk, made once for all tests of the models."""

from __future__ import annotations

import pytest

from .backbones.tiny import Shelf


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return Shelf(tmp_path_factory.mktemp("checkpoints"))
