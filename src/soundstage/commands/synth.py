"""`soundstage synth`: the procedural world as files on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigError
from .options import ConfigOption, PresetOption, SetOption, WorkspaceOption, resolve_config


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("synth")(synth)


def synth(
    out: Annotated[Path, typer.Option("--out", help="Folder to write; must be empty or absent.")],
    preset: PresetOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Write the procedural world: videos with sound, sources.csv, and truth.parquet with the planted defects."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out} is not an empty folder; choose another, or empty it")
    from ..synth.world import build_world

    tree = resolve_config(preset, config, overrides or [], workspace)
    build_world(tree.synth, out)
    videos = sum(1 for _ in (out / "videos").iterdir())
    print(f"synth: {videos} files in {out}; use them with `--source {out}`")
