"""Files that are made from code and kept in the repository: the pipeline as Kubeflow YAML, and DVC's view of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from soundstage.commands import config_file, dvc_file
from soundstage.config import load_config
from soundstage.errors import ConfigError
from soundstage.stages.files import write_text

ROOT = Path(__file__).resolve().parents[1]
PIPELINE = "pipelines/training/pipeline.yaml"
_MADE = "Made by `soundstage pipeline compile`; do not edit."


def training_yaml() -> str:
    """The training pipeline as Kubeflow YAML; its tasks run in the image that $SOUNDSTAGE_IMAGE names."""
    from kfp import compiler

    from .training.pipeline import training

    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(training, str(compiled))
        return compiled.read_text()


def generated() -> Iterator[tuple[str, str]]:
    """Path and text of every generated file of the repository."""
    yield PIPELINE, training_yaml()
    yield "dvc.yaml", dvc_file.render(dvc_file.PROJECT_LAYOUT, f"{_MADE} A developer's chain; run with `dvc repro`.")
    yield "params.yaml", config_file.render(load_config("tiny"), f"{_MADE} Preset tiny, for dvc.yaml.")


def write_generated() -> list[str]:
    """Write the generated files; returns those that changed."""
    changed = [(name, text) for name, text in generated() if _text(name) != text]
    for name, text in changed:
        write_text(ROOT / name, text)
    return [name for name, _ in changed]


def check_generated() -> None:
    """Compare the generated files with what the code gives.

    Raises:
        ConfigError: some differ; they are named.
    """
    stale = [name for name, text in generated() if _text(name) != text]
    if stale:
        raise ConfigError(f"{', '.join(stale)}: not what the code gives; run `make compile` and commit the result")


def _text(name: str) -> str:
    path = ROOT / name
    return path.read_text() if path.exists() else ""
