"""`soundstage calibrate`: thresholds of selection from a labelled sample."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..errors import DataError
from ..stages.workspace import Workspace
from .options import ConfigOption, PresetOption, SetOption, WorkspaceOption, resolve
from .review import read_clips, read_signals

if TYPE_CHECKING:
    from ..curation.calibrate import Calibration

OVERRIDE_FILE = "thresholds.yaml"
_FOLDER = "calibration"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("calibrate")(calibrate)


def calibrate(
    labels: Annotated[
        str,
        typer.Option("--labels", help="`reviews` (people's verdicts), `truth` (the procedural world), or a CSV file."),
    ] = "reviews",
    scores: Annotated[
        list[str] | None,
        typer.Option("--score", help="Signal; may be repeated [default: those by which synchrony is judged]."),
    ] = None,
    precision: Annotated[
        float, typer.Option("--precision", min=0.0, max=1.0, help="Share of good clips wanted among those kept.")
    ] = 0.95,
    bound: Annotated[
        Literal["point", "lower"],
        typer.Option("--bound", help="What must reach it: the estimate, or the lower end of its 95 % interval."),
    ] = "point",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write [default: calibration/ of the workspace].")
    ] = None,
    preset: PresetOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Find the threshold at which what is kept is as good as was asked for, on clips that were labelled."""
    tree, place = resolve(preset, config, overrides, workspace)
    from ..curation import calibrate as calibration

    rows, signals = read_clips(place), read_signals(place)
    clips = {row["clip_id"]: row for row in rows}
    verdicts = _labels(labels, rows, place)
    found: list[Calibration] = []
    for score in dict.fromkeys(scores or calibration.scores_of_synchrony(signals)):
        try:
            found.append(
                calibration.calibrate(
                    score, verdicts, clips, signals, tree.select, tree.window.duration_sec, precision, bound
                )
            )
        except DataError as error:
            # A score that was asked for by name is not passed over.
            if scores or not found:
                raise
            print(f"left out: {error}")
    folder = out or place.root / _FOLDER
    _write(found, folder, labels, precision, bound)
    for item in found:
        print("\n".join(_lines(item, bound)))
    missed = [item.score for item in found if item.chosen is None]
    if len(missed) == len(found):
        raise DataError(
            f"no threshold of {', '.join(missed)} reaches precision {precision:g} by its {bound}; see the curves in "
            f"{folder}, ask for less, or have more clips labelled"
        )


def _labels(source: str, rows: list[dict[str, Any]], place: Workspace) -> dict[str, str]:
    from ..curation.labels import labels_of_reviews, labels_of_table, labels_of_truth
    from ..curation.review import read_reviews
    from ..data.records import TRUTH, read_table
    from ..front import current_record

    if source == "reviews":
        return labels_of_reviews(read_reviews(place))
    if source != "truth":
        return labels_of_table(Path(source), (row["clip_id"] for row in rows))
    ingest = current_record(place, "ingest")
    if "truth.parquet" not in ingest.outputs:
        raise DataError("--labels truth: the sources have no truth table; use people's verdicts or a CSV file")
    return labels_of_truth(read_table(place.output(ingest, "truth.parquet"), TRUTH), rows)


def _write(found: list[Calibration], folder: Path, labels: str, precision: float, bound: str) -> None:
    import yaml

    from ..curation.calibrate import override
    from ..curation.charts import calibration_png
    from ..stages.files import atomic_path, write_json, write_text

    curves = [item.as_dict() for item in found]
    about = {"labels": labels, "precision": precision, "bound": bound, "interval": "Wilson score, 95 %"}
    write_json(folder / "calibration.json", about | {"scores": curves})
    with atomic_path(folder / "calibration.png") as temporary:
        temporary.write_bytes(calibration_png(curves, precision))
    thresholds = override(found)
    write_text(folder / OVERRIDE_FILE, yaml.safe_dump(thresholds))
    flags = " ".join(f"--set select.{name}={value!r}" for name, value in thresholds["select"].items())
    print(f"calibration: {folder / 'calibration.json'}, calibration.png, {OVERRIDE_FILE}")
    if flags:
        print(f"  use it: --config {folder / OVERRIDE_FILE}, or add to another configuration: {flags}")


def _lines(item: Calibration, bound: str) -> list[str]:
    counts = ", ".join(f"{name} {value}" for name, value in item.counts.items())
    lines = [f"{item.score}: {counts}"]
    if item.chosen is None:
        best = max(item.points, key=lambda point: point.precision if bound == "point" else point.precision_low)
        lines.append(f"  not reached; best {_interval(best.precision, best.precision_low, best.precision_high)}")
        return lines
    chosen = item.chosen
    sign = ">=" if item.keeps == "above" else "<="
    lines.append(
        f"  keep {sign} {chosen.threshold:.6g}: precision "
        f"{_interval(chosen.precision, chosen.precision_low, chosen.precision_high)}, yield "
        f"{_interval(chosen.recall, chosen.recall_low, chosen.recall_high)}, {chosen.kept} of the sample kept"
    )
    if item.field is None:
        lines.append(f"  `select` has no threshold on {item.score}: it is not in {OVERRIDE_FILE}")
    return lines


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.3f} (95 % {low:.3f} to {high:.3f})"
