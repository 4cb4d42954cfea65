"""`dvc.yaml`: the chain of stages for DVC, generated from the catalogue for a user's workspace and for this project.

Each stage depends on its own keys of the parameters, on the manifests it reads, on the data contract before it, and on
the fingerprint of its code, which the first stage writes; DVC itself cannot see into an installed package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from ..catalog import STAGES, Stage
from ..config import SoundstageConfig
from ..front import cli_command, slice_class

CODE_STAGE = "code"
CODE_FILE = "code.json"

# The contract that must hold before a stage begins; the pipeline waits for the same ones.
GATES = {
    "curator": "validate-clips",
    "judge": "validate-clips",
    "score": "validate-clips",
    "review": "validate-signals",
    "encode": "validate-selection",
    "backbone": "validate-shards",
}


@dataclass(frozen=True)
class Layout:
    """Where a `dvc.yaml` finds things, relative to itself."""

    workspace: str
    """`.` when the workspace is the repository"""
    parameters: str
    sources: str = ""
    """folder of the package's source when stages depend on their own files; empty for an installed package"""

    def inside(self, path: str) -> str:
        """A path inside the workspace."""
        return path if self.workspace == "." else f"{self.workspace}/{path}"

    def options(self) -> str:
        """Options of every command."""
        return f"--workspace {self.workspace} --config {self.parameters}"


USER_LAYOUT = Layout(".", "soundstage.yaml")
PROJECT_LAYOUT = Layout("workspace", "params.yaml", "src")


def render(layout: Layout, head: str) -> str:
    """Text of `dvc.yaml`; `head` opens it as a comment."""
    code = layout.inside(CODE_FILE)
    stages: dict[str, Any] = {
        CODE_STAGE: {
            "cmd": f"soundstage code-versions {code}",
            "always_changed": True,
            "outs": [{code: {"cache": False}}],
        }
    }
    stages |= {name: _stage(name, stage, layout) for name, stage in STAGES.items()}
    tree = {"stages": stages, "metrics": [layout.inside("manifests/evaluate/evaluation.json")]}
    return f"# {head}\n" + yaml.safe_dump(tree, sort_keys=False, width=120)


def parameter_keys(name: str, stage: Stage) -> list[str]:
    """Keys of the tree that the stage's slice holds; training stages and scorers each have their own."""
    fields = [name if field in ("train", "scorer") else field for field in slice_class(stage).model_fields]
    unknown = [field for field in fields if field not in SoundstageConfig.model_fields]
    assert not unknown, f"slice of {name} holds {unknown}, which are no keys of the tree"
    return fields


def _stage(name: str, stage: Stage, layout: Layout) -> dict[str, Any]:
    before = [*stage.inputs.values(), *([GATES[name]] if name in GATES else [])]
    inputs = [layout.inside(f"manifests/{source}") for source in before]
    own = [f"{layout.sources}/{stage.module.replace('.', '/')}.py"] if layout.sources else []
    entry: dict[str, Any] = {"cmd": f"{cli_command(name)} {layout.options()}"}
    if own or inputs:
        entry["deps"] = [*own, *inputs]
    entry["params"] = [{layout.parameters: parameter_keys(name, stage)}, {layout.inside(CODE_FILE): [name]}]
    entry["outs"] = [layout.inside(f"manifests/{name}")]
    # It looks at things outside the repository: videos, the ledger, a saved scorer, the model registry.
    if stage.external or not stage.cacheable:
        entry["always_changed"] = True
    return entry
