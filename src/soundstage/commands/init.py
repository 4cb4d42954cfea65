"""`soundstage init`: a user's own workspace repository, so that the project's clone stays clean."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigError
from ..stages.files import write_json, write_text
from . import config_file, dvc_file
from .options import CONFIG_FILE, PresetOption, SetOption, SourceOption, resolve_config, source_overrides


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("init")(init)
    app.command("code-versions", hidden=True)(code_versions)


def init(
    folder: Annotated[Path, typer.Argument(help="New or empty folder.")],
    source: SourceOption = None,
    preset: PresetOption = None,
    overrides: SetOption = None,
) -> None:
    """Make a workspace repository: git, DVC with a local remote, soundstage.yaml, dvc.yaml, README."""
    from ..data.versions import commit_all, make_repository

    if folder.exists() and (not folder.is_dir() or any(item.name != ".git" for item in folder.iterdir())):
        raise ConfigError(f"{folder} is not an empty folder; `soundstage init` never writes over files: choose another")
    implied = [] if source is None else source_overrides(source)
    tree = resolve_config(preset, None, [*implied, *(overrides or [])], None)
    folder.mkdir(parents=True, exist_ok=True)
    make_repository(folder)
    head = f"Configuration of this workspace, resolved from preset {tree.preset}; every key may be edited."
    write_text(folder / CONFIG_FILE, config_file.render(tree, head))
    write_text(
        folder / "dvc.yaml", dvc_file.render(dvc_file.USER_LAYOUT, "Stages of Soundstage; run with `dvc repro`.")
    )
    write_text(folder / ".gitignore", _template("workspace_gitignore"))
    write_text(folder / "README.md", _template("workspace_readme.md"))
    committed = commit_all(folder, "Start a Soundstage workspace")
    print(f"workspace repository in {folder}" + ("" if committed else " (staged; git knows no author to commit as)"))
    print(f"next: edit {folder / CONFIG_FILE}, then `soundstage pipeline run --workspace {folder}`")


def code_versions(out: Annotated[Path, typer.Argument(help="JSON file to write.")]) -> None:
    """Write the fingerprint of the code behind every stage, for DVC to compare."""
    from ..front import code_versions as current

    write_json(out, current())


def _template(name: str) -> str:
    return (resources.files("soundstage.data") / "templates" / name).read_text()
