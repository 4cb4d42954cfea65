"""The commands of this room: `soundstage demo` and `soundstage pipeline`; they join the command line by entry point."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from soundstage.commands.options import (
    ConfigOption,
    MaxStepsOption,
    PresetOption,
    SetOption,
    SourceOption,
    WorkspaceOption,
    resolve,
)

if TYPE_CHECKING:
    from .driver import PipelineResult

NoCacheOption = Annotated[bool, typer.Option("--no-cache", help="Run every stage again, whatever exists.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("demo")(demo)
    pipeline = typer.Typer(no_args_is_help=True, help="Compile the training pipeline, or run it on this machine.")
    pipeline.command("compile")(compile_)
    pipeline.command("run")(run)
    app.add_typer(pipeline, name="pipeline")


def demo(
    source: SourceOption = None,
    max_steps: MaxStepsOption = None,
    preset: PresetOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    workspace: WorkspaceOption = None,
    no_cache: NoCacheOption = False,
) -> None:
    """Run the whole pipeline, then animate one image with one sound the model has not seen."""
    from soundstage.front import require_verdict

    from .demo import animate_unseen
    from .driver import run_pipeline

    tree, place = resolve(preset, config, overrides, workspace, source, max_steps)
    result = run_pipeline(tree, place, no_cache=no_cache)
    animation = animate_unseen(tree, place, result.records)
    _conclude(result)
    print(f"animation: {animation}")
    require_verdict(place, result.records["promote"], trial=tree.trial)


def run(
    source: SourceOption = None,
    max_steps: MaxStepsOption = None,
    preset: PresetOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    workspace: WorkspaceOption = None,
    no_cache: NoCacheOption = False,
) -> None:
    """Run all stages on this machine through kfp's local runner; exit 3 when the gate refuses the model."""
    from soundstage.front import require_verdict

    from .driver import run_pipeline

    tree, place = resolve(preset, config, overrides, workspace, source, max_steps)
    result = run_pipeline(tree, place, no_cache=no_cache)
    _conclude(result)
    require_verdict(place, result.records["promote"], trial=tree.trial)


def compile_(
    out: Annotated[
        Path | None,
        typer.Option("--out", help="YAML file [default: all generated files of the project's clone]."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 2 when a generated file differs.")
    ] = False,
) -> None:
    """Write the pipeline as Kubeflow YAML; $SOUNDSTAGE_IMAGE names the image of its tasks."""
    from soundstage.stages.files import write_text

    from . import compile as compiled

    if check:
        compiled.check_generated()
        print("generated files are what the code gives")
    elif out is not None:
        write_text(out, compiled.training_yaml())
        print(f"compiled: {out}")
    else:
        print(f"changed: {', '.join(compiled.write_generated()) or 'nothing'}")


def _conclude(result: PipelineResult) -> None:
    from .present import print_summary

    print_summary(result)
