"""`soundstage review`: the stage by itself, and the round trip of verdicts through a spreadsheet."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..errors import ConfigError
from ..stages.workspace import Workspace
from .options import ConfigOption, FreshOption, PresetOption, SetOption, WorkspaceOption, resolve

_NEXT = "then run `soundstage review` and the stages after it, or the pipeline"


def register(app: typer.Typer) -> None:
    """Add the commands; `soundstage review` alone runs the stage."""
    review = typer.Typer(help="Take the snapshot of human verdicts that later stages read; or make such verdicts.")
    review.callback(invoke_without_command=True)(snapshot)
    review.command("export")(export)
    review.command("import")(import_)
    review.command("status")(status)
    app.add_typer(review, name="review")


def snapshot(
    context: typer.Context,
    preset: PresetOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    workspace: WorkspaceOption = None,
    fresh: FreshOption = False,
) -> None:
    """Take the snapshot of human verdicts that later stages read; or make such verdicts with the commands below."""
    if context.invoked_subcommand is not None:
        if any((preset, config, overrides, workspace, fresh)):
            name = context.invoked_subcommand
            raise ConfigError(f"options of `soundstage review {name}` stand behind `{name}`, not before it")
        return
    from ..front import run_current

    tree, place = resolve(preset, config, overrides, workspace)
    run_current("review", tree, place, fresh=fresh)


def export(
    out: Annotated[Path, typer.Option("--out", help="CSV file to write.")] = Path("review.csv"),
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many clips.")] = None,
    split: Annotated[
        Literal["pretrain", "validation", "test", "open_class_test", "all"],
        typer.Option("--split", help="Clips of this split; only kept clips of `pretrain` reach stage two."),
    ] = "pretrain",
    order: Annotated[
        Literal["queue", "random"],
        typer.Option("--order", help="`queue`: where a verdict is worth most; `random`: a sample to calibrate on."),
    ] = "queue",
    reviewed: Annotated[bool, typer.Option("--reviewed", help="Also clips that a person has judged.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    preset: PresetOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Write the clips that wait for a verdict as a table to fill in: any table program, any player."""
    tree, place = resolve(preset, config, overrides, workspace)
    from ..curation.queue import random_order, review_queue
    from ..curation.review import is_human, latest_verdicts
    from ..curation.review_sheet import render_sheet
    from ..stages.files import write_text

    clips, signals = read_clips(place), read_signals(place)
    verdicts = latest_verdicts(_reviews(place))
    judged = {name for name, row in verdicts.items() if is_human(row)}
    asked = [
        clip
        for clip in clips
        if clip["split"] in ((split,) if split != "all" else ("pretrain", "validation", "test", "open_class_test"))
        and (reviewed or clip["clip_id"] not in judged)
    ]
    arranged = review_queue if order == "queue" else random_order
    queue = arranged(asked, signals, tree.select, tree.window.duration_sec)[:limit]
    text = render_sheet(queue, signals, verdicts, place)
    if out.exists() and not force and out.read_bytes() != text.encode():
        raise ConfigError(f"--out {out} exists and may hold verdicts; import it, choose another file, or use --force")
    write_text(out, text)
    print(f"review: {len(queue)} clips in {out}; fill in verdict and seconds_spent, `soundstage review import {out}`")


def import_(
    sheet: Annotated[Path, typer.Argument(help="CSV file as `soundstage review export` wrote it, filled in.")],
    reviewer: Annotated[str, typer.Option("--reviewer", help="Who reviewed, where the column is empty.")] = "",
    preset: PresetOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Append the verdicts of a filled-in table to the ledger: all of them or none; importing again adds nothing."""
    tree, place = resolve(preset, config, overrides, workspace)
    from ..curation.review_sheet import import_sheet, read_sheet

    known = {clip["clip_id"] for clip in read_clips(place)}
    read = read_sheet(sheet, known, reviewer, tree.contracts)
    added = import_sheet(place, read, datetime.now(UTC))
    there = len(read.rows) - len(added)
    print(f"review: {len(added)} verdicts added, {there} were there already, {read.blank} rows have no verdict yet")
    if added:
        print(_NEXT)


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    preset: PresetOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Tell what people decided, in how many seconds, and what a clip of each stage cost them."""
    _, place = resolve(preset, config, overrides, workspace)
    from ..curation.effort import describe_effort, effort_report
    from ..curation.review import read_reviews
    from ..data.records import SELECTION, read_table

    selection: list[dict[str, Any]] | None = None
    if (place.manifest("select") / "record.json").exists():
        selection = read_table(place.output(place.current("select"), "selection.parquet"), SELECTION)
    report = effort_report(read_reviews(place), read_clips(place), selection)
    print(json.dumps(report, indent=2) if as_json else describe_effort(report))


def read_clips(place: Workspace) -> list[dict[str, Any]]:
    """The current clips with their splits.

    Raises:
        DataError: no stage has made them yet; its command is named.
    """
    from ..data.records import CLIPS, read_table
    from ..front import current_record

    return read_table(place.output(current_record(place, "split"), "clips.parquet"), CLIPS)


def read_signals(place: Workspace) -> dict[str, dict[str, Any]]:
    """The current signals by clip id.

    Raises:
        DataError: no stage has made them yet; its command is named.
    """
    from ..data.records import SIGNALS, read_table
    from ..front import current_record

    table = read_table(place.output(current_record(place, "score"), "signals.parquet"), SIGNALS)
    return {row["clip_id"]: row for row in table}


def _reviews(place: Workspace) -> list[dict[str, Any]]:
    """The ledger, and the simulated verdicts of the last snapshot where there are any."""
    from ..curation.review import is_human, read_reviews
    from ..data.records import REVIEWS, read_table

    rows = read_reviews(place)
    if (place.manifest("review") / "record.json").exists():
        snapshot = read_table(place.output(place.current("review"), "reviews.parquet"), REVIEWS)
        rows += [row for row in snapshot if not is_human(row)]
    return rows
