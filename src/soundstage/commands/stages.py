"""One command a stage: it runs on the workspace's current results and says what happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import typer

from .options import ConfigOption, FreshOption, PresetOption, SetOption, SourceOption, WorkspaceOption, resolve

_SUMMARIES = {
    "split": "Assign every group of clips to one split.",
    "score": "Compute the signals of every clip.",
    "select": "Decide the use of every clip, with reasons.",
    "encode": "Write windows of the selected clips as shards.",
    "evaluate": "Generate the test clips under all conditions and measure them.",
    "register": "Register the trained adapter as a model version.",
    "promote": "Judge the registered candidate; exit 3 when a rule of the gate fails.",
}
_TRAINING_SUMMARIES = {
    "backbone": "Name the pretrained backbone, or train the stand-in on video alone.",
    "pretrain": "Stage one: train the audio adapters.",
    "finetune": "Stage two: finetune the adapters on clips that a person has kept.",
}


def register(app: typer.Typer) -> None:
    """Add the stage commands."""
    train = typer.Typer(no_args_is_help=True, help="Train a sync scorer, the backbone's stand-in, or the adapters.")
    for stage, summary in _TRAINING_SUMMARIES.items():
        train.command(stage, help=summary)(_command(stage))
    train.command("scorer")(scorer)
    app.command("ingest")(ingest)
    for stage, summary in _SUMMARIES.items():
        app.command(stage, help=summary)(_command(stage))
    app.command("validate")(validate)
    app.add_typer(train, name="train")


def ingest(
    source: SourceOption = None,
    preset: PresetOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    workspace: WorkspaceOption = None,
    fresh: FreshOption = False,
) -> None:
    """Turn a folder of videos, or the procedural world, into normalised clips."""
    from ..front import run_current

    tree, place = resolve(preset, config, overrides, workspace, source)
    run_current("ingest", tree, place, fresh=fresh)


def validate(
    record: Literal["clips", "signals", "selection", "shards"],
    preset: PresetOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    workspace: WorkspaceOption = None,
    fresh: FreshOption = False,
) -> None:
    """Judge one record by its data contract; exit 5 names suite, expectation and clip ids."""
    from ..front import run_current

    tree, place = resolve(preset, config, overrides, workspace)
    run_current(f"validate-{record}", tree, place, fresh=fresh)


def scorer(
    role: Annotated[
        Literal["curator", "judge"],
        typer.Option(help="`curator` learns on split pretrain and scores clips; `judge` learns on its own split."),
    ],
    register_as: Annotated[
        str | None, typer.Option("--register-as", metavar="NAME", help="Also make it a version of this model.")
    ] = None,
    preset: PresetOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    workspace: WorkspaceOption = None,
    fresh: FreshOption = False,
) -> None:
    """Train the sync scorer of a role on the workspace's clips, or take the saved one that is configured."""
    from ..front import run_current

    tree, place = resolve(preset, config, overrides, workspace)
    if register_as is not None:
        from ..tracking.scorers import check_name, register_scorer

        # Before the training, not after it.
        check_name(register_as, tree.registry.name)
    execution = run_current(role, tree, place, fresh=fresh)
    if register_as is not None:
        print(f"registered: {register_scorer(place, tree.tracking, register_as, execution.record)}")


def _command(stage: str) -> Callable[..., None]:
    def command(
        preset: PresetOption = None,
        config: ConfigOption = None,
        overrides: SetOption = None,
        workspace: WorkspaceOption = None,
        fresh: FreshOption = False,
    ) -> None:
        from ..front import require_verdict, run_current

        tree, place = resolve(preset, config, overrides, workspace)
        execution = run_current(stage, tree, place, fresh=fresh)
        if stage == "promote":
            require_verdict(place, execution.record, trial=tree.trial)

    return command
