"""A stage's code version moves with the code it can reach, and with no other."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from soundstage.catalog import STAGES
from soundstage.stages import fingerprint

Version = Callable[[str], str]


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the package that fingerprints are taken of."""
    root = tmp_path / "soundstage"
    shutil.copytree(fingerprint._root(), root, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprint, "_root", lambda: root)
    _forget()
    yield root
    _forget()


def _forget() -> None:
    fingerprint.code_version.cache_clear()
    fingerprint._imports.cache_clear()


def versions() -> dict[str, str]:
    _forget()
    return {name: stage.code_version() for name, stage in STAGES.items()}


def moved_by(path: Path) -> set[str]:
    before = versions()
    path.write_text(path.read_text() + "\n# another line\n")
    after = versions()
    return {name for name in before if before[name] != after[name]}


TRAINING = {"backbone", "pretrain", "finetune"}


@pytest.mark.parametrize(
    ("file", "moved", "kept"),
    [
        ("training/engine.py", TRAINING, {"encode", "evaluate", "ingest"}),
        ("training/worker.py", TRAINING, {"encode", "evaluate", "ingest"}),
        ("training/launchers/local.py", TRAINING, {"encode", "ingest"}),
        ("evaluation/metrics/motion.py", {"evaluate"}, TRAINING | {"encode", "score"}),
        ("models/adapter.py", TRAINING | {"evaluate"}, {"ingest", "split", "score"}),
        ("models/audio/mel.py", TRAINING | {"evaluate", "encode"}, {"ingest", "split", "score"}),
        ("data/windows.py", {"encode", "evaluate"}, {"ingest", "split", "score"}),
        ("synth/sounds.py", set(), {"encode", "evaluate", "score"} | TRAINING),
        ("commands/doctor.py", set(), set(STAGES)),
        ("stages/files.py", set(STAGES), set()),
        ("errors.py", set(STAGES), set()),
    ],
)
def test_a_changed_file_moves_the_stages_that_reach_it(
    copied: Path, file: str, moved: set[str], kept: set[str]
) -> None:
    found = moved_by(copied / file)
    assert moved <= found
    assert not kept & found


def test_imports_inside_functions_and_relative_ones_count(copied: Path) -> None:
    (copied / "room").mkdir()
    (copied / "room" / "__init__.py").write_text("")
    for name in ("near", "late", "absolute", "unrelated"):
        (copied / "room" / f"{name}.py").write_text("VALUE = 1\n")
    (copied / "room" / "stage.py").write_text(
        "import soundstage.room.absolute\nfrom . import near\n\n"
        "def run():\n    from ..room.late import VALUE\n    return VALUE\n"
    )
    found = fingerprint._closure("soundstage.room.stage")
    assert {f"soundstage.room.{name}" for name in ("stage", "near", "late", "absolute")} <= found
    assert "soundstage.room.unrelated" not in found


@pytest.mark.parametrize("library", ["torch", "pillow", "webdataset"])
def test_library_versions_count(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    before = versions()["encode"]
    real = fingerprint._version
    monkeypatch.setattr(fingerprint, "_version", lambda name: "0.0.1" if name == library else real(name))
    assert versions()["encode"] != before
    _forget()
