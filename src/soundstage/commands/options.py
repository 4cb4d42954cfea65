"""Options that commands share, and what they mean together: one resolved configuration and one workspace."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from ..config import SoundstageConfig, load_config
from ..stages.workspace import Workspace

CONFIG_FILE = "soundstage.yaml"

PresetOption = Annotated[
    str | None,
    typer.Option(
        "--preset", help="Named configuration, see `model list`. Given alone, the workspace's file is not read."
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="YAML file; by default soundstage.yaml of the workspace, where there is one."),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override one key; may be repeated; the last wins.")
]
WorkspaceOption = Annotated[
    Path | None,
    typer.Option("--workspace", help="Folder of data and results [default: $SOUNDSTAGE_WORKSPACE, else ./workspace]."),
]
FreshOption = Annotated[bool, typer.Option("--fresh", help="Run although the result exists.")]
SourceOption = Annotated[
    str | None, typer.Option("--source", help="Folder, table, tars or URL of videos; `synth:` is the procedural world.")
]
MaxStepsOption = Annotated[
    int | None,
    typer.Option(
        "--max-steps", min=1, help="Trial: at most so many optimizer steps a training; judged, never promoted."
    ),
]


class Resolved(NamedTuple):
    """What a command works on."""

    config: SoundstageConfig
    workspace: Workspace


def resolve(
    preset: str | None,
    config: Path | None,
    overrides: Sequence[str] | None,
    workspace: Path | None,
    source: str | None = None,
    max_steps: int | None = None,
) -> Resolved:
    """Open the workspace and resolve the tree: preset, file, what other options imply, then `--set`.

    Raises:
        ConfigError: unknown preset or key, unreadable file, value out of range.
    """
    place = Workspace.open(workspace)
    implied = [] if source is None else source_overrides(source)
    tree = resolve_config(preset, config, [*implied, *(overrides or [])], place.root)
    return Resolved(tree if max_steps is None else cap_steps(tree, max_steps), place)


def resolve_config(
    preset: str | None, config: Path | None, overrides: Sequence[str], root: Path | None
) -> SoundstageConfig:
    """Resolve the tree alone; `root` is a workspace whose own file is read, made by nobody here.

    Raises:
        ConfigError: as `resolve`.
    """
    own = None if root is None else root / CONFIG_FILE
    file = config or (own if preset is None and own is not None and own.exists() else None)
    return load_config(preset, file, overrides)


def source_overrides(source: str) -> list[str]:
    """What a source implies: real videos have no truth table that a simulated reviewer could read."""
    if source.startswith("synth:"):
        return [f"ingest.source={source!r}"]
    # An address stays as it is; a path must not depend on where the command was run.
    place = source if "://" in source else str(Path(source).expanduser().resolve())
    return [f"ingest.source={place!r}", "review.reviewer=none"]


def cap_steps(config: SoundstageConfig, max_steps: int) -> SoundstageConfig:
    """The same configuration as a trial: no training takes more than `max_steps` optimizer steps."""
    capped = {
        name: part.model_copy(update={"steps": min(part.steps, max_steps)})
        for name, part in (
            ("curator", config.curator),
            ("judge", config.judge),
            ("backbone", config.backbone),
            ("pretrain", config.pretrain),
            ("finetune", config.finetune),
        )
    }
    return config.model_copy(update={"trial": True, **capped})
