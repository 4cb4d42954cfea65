"""A model version's files: MLflow's pyfunc layout with the adapter, the backbone or a reference to it, and our code.

MLmodel, requirements.txt, ...       MLflow's
serving.py                           the model's code (models from code: no pickle)
code/soundstage/                     the package as it was, so that the version runs where no newer one is imported
artifacts/adapter/
artifacts/backbone_reference.json    family, path or hub id, fingerprint
artifacts/backbone/                  the trained stand-in; of a pretrained backbone only backbone.json, which names it
artifacts/evaluation.json
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from ..config.tree import EvaluateConfig
from .folders import ADAPTER_FOLDER, BACKBONE_FOLDER, REFERENCE_FILE, BackboneReference

if TYPE_CHECKING:
    from mlflow.models import Model, ModelSignature

DISTRIBUTION = "soundstage"
_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class ModelParts:
    """What goes into a version."""

    adapter: Path
    backbone: Path
    reference: BackboneReference
    evaluation: Path


def signature(evaluate: EvaluateConfig) -> ModelSignature:
    """Columns in and out, and the sampler's parameters with the values that the evaluation used."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    inputs = Schema([ColSpec("binary", "image"), ColSpec("binary", "audio"), ColSpec("string", "caption")])
    params = ParamSchema(
        [
            ParamSpec("seed", "long", evaluate.seed),
            ParamSpec("num_inference_steps", "long", evaluate.num_inference_steps),
            ParamSpec("audio_guidance_scale", "double", float(evaluate.audio_guidance_scale)),
            ParamSpec("text_guidance_scale", "double", float(evaluate.text_guidance_scale)),
        ]
    )
    return ModelSignature(inputs=inputs, outputs=Schema([ColSpec("binary", "video")]), params=params)


def requirements() -> list[str]:
    """The package's own requirements, extras left out, each at the version installed here."""
    parsed = [Requirement(text) for text in metadata.requires(DISTRIBUTION) or []]
    names = sorted(item.name for item in parsed if item.marker is None or item.marker.evaluate({"extra": ""}))
    return [f"{name}=={metadata.version(name)}" for name in names]


def save_version(target: Path, parts: ModelParts, evaluate: EvaluateConfig, mlflow_model: Model) -> None:
    """Write a version's files to the new folder `target`."""
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder) / REFERENCE_FILE
        parts.reference.save(reference)
        artifacts = {
            ADAPTER_FOLDER: parts.adapter,
            BACKBONE_FOLDER: parts.backbone,
            "backbone_reference": reference,
            "evaluation": parts.evaluation,
        }
        save_pyfunc(target, "serving.py", artifacts, signature(evaluate), mlflow_model)


def save_pyfunc(
    target: Path, code: str, artifacts: Mapping[str, Path], signature: ModelSignature, mlflow_model: Model
) -> None:
    """Write MLflow's layout around `artifacts`, with the model's `code` (a file of this room) and our package."""
    import mlflow.pyfunc

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # MLflow would like an example request and type hints it knows; the signature is explicit instead.
        warnings.simplefilter("ignore", UserWarning)
        package = Path(folder) / DISTRIBUTION
        shutil.copytree(_PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
        mlflow.pyfunc.save_model(
            str(target),
            mlflow_model=mlflow_model,
            python_model=str(Path(__file__).with_name(code)),
            code_paths=[str(package)],
            artifacts={name: str(path) for name, path in artifacts.items()},
            signature=signature,
            pip_requirements=requirements(),
        )
