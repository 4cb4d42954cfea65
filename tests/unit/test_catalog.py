"""The stages by name: what they read exists, and is made before they run."""

from __future__ import annotations

import re

import pytest

from soundstage.catalog import STAGES, find_stage, load_attribute
from soundstage.errors import ConfigError


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_names_real_functions_and_earlier_stages(name: str) -> None:
    stage = find_stage(name)
    assert callable(load_attribute(stage.function))
    assert not stage.external or callable(load_attribute(stage.external))
    earlier = list(STAGES)[: list(STAGES).index(name)]
    assert set(stage.inputs.values()) <= set(earlier)
    assert re.fullmatch(r"[0-9a-f]{16}", stage.code_version())


def test_only_what_talks_to_the_registry_is_never_cached() -> None:
    assert {name for name, stage in STAGES.items() if not stage.cacheable} == {"register", "promote"}


def test_an_unknown_stage_is_answered_with_the_known() -> None:
    with pytest.raises(ConfigError, match=r"no stage is called 'trian'; stages: ingest, split"):
        find_stage("trian")
