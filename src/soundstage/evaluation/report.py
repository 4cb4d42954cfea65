"""The report of a pipeline run: one HTML file that needs nothing else, for the engineer who must judge the run.

It reads stage records and their payloads alone, so the same results give the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from ..stages import StageRecord, Workspace
from ..stages.files import atomic_path, write_text
from . import plots
from .protocol import ARMS
from .report_figure import to_png, to_svg
from .report_funnel import planted_defects, read_funnel
from .report_lineage import lineage
from .report_numbers import fixed, grouped, interval
from .report_samples import SampleRow, read_samples
from .report_verdict import headline, read_run_config, thresholds

TRAINING_STAGES = {"backbone": "backbone", "pretrain": "stage one", "finetune": "stage two"}

Records = Mapping[str, StageRecord]


def write_report(workspace: Workspace, records: Records, summary: Mapping[str, Any], path: Path) -> None:
    """Write the report of a run to `path`, whole or not at all.

    `records` holds every stage of the catalogue by name; `summary` is what the pipeline writes as `summary.json`.

    Raises:
        DataError: an output that the report shows is gone from the workspace.
    """
    write_text(path, _environment().get_template("report.html").render(_context(workspace, records, summary)))


def plot_files(workspace: Workspace, records: Records, folder: Path) -> list[Path]:
    """Write the figures of a run as PNG files into `folder`: funnel, losses by reason, loss curves, controls, classes.

    A figure without data (a skipped stage, no test clip) is left out. Returns the paths.
    """
    paths = []
    for plot in _plots(workspace, records):
        paths.append(folder / f"{plot.name}.png")
        with atomic_path(paths[-1]) as temporary:
            temporary.write_bytes(to_png(plot.figure))
    return paths


@dataclass(frozen=True)
class _Plot:
    name: str
    says: str
    """for those who cannot see it"""
    figure: Figure

    def svg(self) -> Markup:
        return Markup(to_svg(self.figure, self.name, self.says))  # noqa: S704 - to_svg escapes what it is given


def _plots(workspace: Workspace, records: Records) -> Iterator[_Plot]:
    funnel = read_funnel(workspace, records)
    yield _Plot("funnel", "Sources, clips and selected clips as stacked bars", plots.funnel_figure(funnel))
    if funnel.losses:
        yield _Plot("losses_by_reason", "Items turned away, by reason", plots.losses_figure(funnel))
    for stage, title in TRAINING_STAGES.items():
        curves = _json(workspace, records[stage], "curves.json")
        if curves.get("train"):
            yield _Plot(f"loss_{stage}", f"Loss of {title} over steps", plots.loss_figure(curves))
    evaluation = _json(workspace, records["evaluate"], "evaluation.json")
    if evaluation["clips"]:
        limits = thresholds(_json(workspace, records["promote"], "verdict.json")["rules"])
        conditions = _in_order(evaluation["metrics"]["motion_corr"])
        says = "Mean motion correlation with interval, for each condition"
        yield _Plot("controls", says, plots.controls_figure(conditions, limits))
        says = "Mean motion correlation with interval, for each class"
        yield _Plot("classes", says, plots.classes_figure(evaluation["per_class"]))


def _context(workspace: Workspace, records: Records, summary: Mapping[str, Any]) -> dict[str, Any]:
    evaluation = _json(workspace, records["evaluate"], "evaluation.json")
    meanings = _meanings(evaluation)
    script = resources.files(__package__).joinpath("templates", "report.js").read_text(encoding="utf-8")
    return {
        "head": headline(summary, read_run_config(workspace.runs / str(summary.get("run", ""))), meanings),
        "funnel": read_funnel(workspace, records),
        "defects": planted_defects(workspace, records),
        "simulated": records["review"].counts.get("reviews_simulated", 0),
        "figures": {plot.name: plot.svg() for plot in _plots(workspace, records)},
        "training": [_training(title, stage, records[stage]) for stage, title in TRAINING_STAGES.items()],
        "samples": [_sample(number, row) for number, row in enumerate(read_samples(workspace, records["evaluate"]))],
        "meanings": meanings,
        "evaluation": evaluation,
        "measured": _in_order(evaluation["metrics"]["motion_corr"]),
        "paired": evaluation.get("paired", {}).get("stage_two_minus_stage_one"),
        "judge": _judged(evaluation, records["evaluate"]),
        "no_clips_note": records["evaluate"].notes.get("evaluation", ""),
        "lineage": lineage(workspace, records, summary),
        "script": Markup(script),  # noqa: S704 - a file of this package
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    }


def _judged(evaluation: Mapping[str, Any], record: StageRecord) -> dict[str, Any]:
    """What the independent scorer said of each condition, the true clips first; or why nothing was asked of one."""
    found = evaluation.get("judge", {"name": "", "conditions": {}})
    truth = {name: entry for name, entry in found["conditions"].items() if name == "truth"}
    return {
        "name": found["name"],
        "conditions": truth | _in_order(found["conditions"]),
        "note": record.notes.get("judge", ""),
    }


def _meanings(evaluation: Mapping[str, Any]) -> dict[str, str]:
    """What each condition means; the delay of `late` in frames, which only the protocol knows."""
    meanings = _in_order(evaluation["conditions"])
    if "late" in meanings and "late_frames" in evaluation["protocol"]:
        meanings["late"] += f" by {evaluation['protocol']['late_frames']} frames"
    return meanings


def _training(title: str, stage: str, record: StageRecord) -> dict[str, Any]:
    """What stands beside a loss curve."""
    return {
        "title": title,
        "figure": f"loss_{stage}",
        "steps": record.counts.get("steps", 0),
        "samples": record.counts.get("samples"),
        "train_loss": record.metrics.get("final_train_loss"),
        "held_out_loss": record.metrics.get("final_validation_loss"),
        "share": record.metrics.get("trainable_share"),
        "note": record.notes.get("stage_two", ""),
    }


def _sample(number: int, row: SampleRow) -> dict[str, Any]:
    """A row of videos with its figure."""
    svg = None
    if row.overlay is not None:
        says = f"Motion of the true and the generated video of clip {row.clip_id[:12]} over its sound"
        svg = _Plot(f"overlay_{number}", says, plots.overlay_figure(row.overlay)).svg()
    return {"number": number, "row": row, "overlay": svg}


def _in_order(by_condition: Mapping[str, Any]) -> dict[str, Any]:
    """By condition in the protocol's order; JSON files are sorted by name."""
    known = [arm.name for arm in ARMS if arm.name in by_condition]
    return {name: by_condition[name] for name in [*known, *sorted(set(by_condition) - set(known))]}


def _json(workspace: Workspace, record: StageRecord, name: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(workspace.output(record, name).read_text(encoding="utf-8"))
    return values


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("soundstage.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(fixed=fixed, grouped=grouped, interval=interval)
    return environment
