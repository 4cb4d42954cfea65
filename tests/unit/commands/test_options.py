"""What `--source` implies: a path is told absolutely, an address and the procedural world as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from soundstage.commands.options import source_overrides
from soundstage.config import load_config


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("s3://bucket/raw/*.mp4", "s3://bucket/raw/*.mp4"),
        ("https://x.org/rows.csv?v='1'", "https://x.org/rows.csv?v='1'"),
        ("films/*.tar", "{here}/films/*.tar"),
        ("../rows.csv", "{above}/rows.csv"),
        ("synth:", "synth:"),
    ],
)
def test_sources_on_the_command_line(source: str, expected: str) -> None:
    here = Path.cwd()
    found = load_config("micro", overrides=source_overrides(source)).ingest.source
    assert found == expected.format(here=here, above=here.parent)
