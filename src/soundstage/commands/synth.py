"""`soundstage synth`: the procedural world as files on disk."""

from __future__ import annotations

import json
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
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the whole world.")] = None,
    clips: Annotated[int | None, typer.Option("--clips", min=1, help="Clean files before defects are planted.")] = None,
    mix: Annotated[str | None, typer.Option("--mix", help="Defects by shares of all files: none, mild, harsh.")] = None,
    planted: Annotated[
        list[str] | None,
        typer.Option("--plant", metavar="KIND=N", help="Number of files of one planted kind; may be repeated."),
    ] = None,
    class_names: Annotated[
        list[str] | None, typer.Option("--class", metavar="NAME", help="A class by name; may be repeated.")
    ] = None,
    preset: PresetOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Write the procedural world: videos with sound, sources.csv, and truth.parquet with the planted defects."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out} is not an empty folder; choose another, or empty it")
    from ..synth.world import build_world

    implied = [
        f"synth.{key}={value}" for key, value in (("seed", seed), ("clips", clips), ("mix", mix)) if value is not None
    ]
    implied += [_planted_override(text) for text in planted or []]
    if class_names:
        implied.append(f"synth.class_names={json.dumps(class_names)}")
    tree = resolve_config(preset, config, [*implied, *(overrides or [])], workspace)
    build_world(tree.synth, out)
    videos = sum(1 for _ in (out / "videos").iterdir())
    print(f"synth: {videos} files in {out}; use them with `--source {out}`")


def _planted_override(text: str) -> str:
    kind, separator, number = text.partition("=")
    if not separator or not kind or not number.isdecimal():
        raise ConfigError(f"--plant {text!r} is not of the form KIND=N; example: --plant shifted=20")
    return f"synth.planted.{kind}={number}"
