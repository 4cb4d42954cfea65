"""The options of `soundstage synth` reach the world; what they cannot mean is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from soundstage.commands.synth import synth
from soundstage.data.records import TRUTH, read_table
from soundstage.errors import ConfigError

SMALL = ["synth.defects_each=0", "synth.duration_sec=1.0", "synth.size=32", "synth.fps=12"]


def test_options_choose_seed_classes_and_planted_kinds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "world"
    synth(out, seed=5, clips=3, planted=["silent=2", "still=1"], class_names=["lamp"], preset="micro", overrides=SMALL)
    truth = read_table(out / "truth.parquet", TRUTH)
    assert Counter(row["defect"] for row in truth) == {"none": 3, "silent": 2, "still": 1}
    assert {row["label"] for row in truth} == {"lamp"}
    assert f"6 files in {out}" in capsys.readouterr().out
    synth(tmp_path / "other", seed=6, clips=1, class_names=["lamp"], preset="micro", overrides=SMALL)
    first, other = ((folder / "videos" / "00000.mp4").read_bytes() for folder in (out, tmp_path / "other"))
    assert first != other


def test_a_later_override_wins_over_an_option(tmp_path: Path) -> None:
    synth(tmp_path / "world", clips=3, mix="harsh", preset="micro", overrides=[*SMALL, "synth.clips=1"])
    assert Counter(row["defect"] for row in read_table(tmp_path / "world" / "truth.parquet", TRUTH)) == {"none": 1}


@pytest.mark.parametrize("text", ["silent", "=3", "silent=", "silent=-1", "silent=many"])
def test_a_planted_kind_needs_its_number(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="KIND=N; example"):
        synth(tmp_path / "world", planted=[text], preset="micro")
    assert not (tmp_path / "world").exists()


def test_an_unknown_class_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no class is called 'lampp'"):
        synth(tmp_path / "world", class_names=["lampp"], preset="micro")
    assert not (tmp_path / "world").exists()
