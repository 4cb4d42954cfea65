"""A pipeline run's end on the terminal: stages and seconds, what was kept, measured and decided, where to look."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from .driver import PipelineResult


def print_summary(result: PipelineResult) -> None:
    """Print tables of stages and metrics, the verdict and the paths."""
    console = Console(width=None if Console().is_terminal else 110)
    console.print(_stages(result))
    console.print(_clips(result.summary))
    console.print(_metrics(result.summary["metrics"]))
    for line in [*_verdict(result.summary), *(f"{name}: {path}" for name, path in result.summary["paths"].items())]:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _stages(result: PipelineResult) -> Table:
    table = Table("stage", "", "seconds", title=f"run {result.run_id}", title_justify="left")
    table.columns[2].justify = "right"
    for item in result.times:
        table.add_row(item.stage, item.how, f"{item.seconds:.1f}")
    ran = sum(item.seconds for item in result.times if item.ran)
    table.add_section()
    table.add_row("all", f"{sum(item.ran for item in result.times)} ran", f"{ran:.1f}")
    return table


def _verdict(summary: dict[str, Any]) -> list[str]:
    model = summary["model"]
    word = "promoted" if summary["promoted"] else "not promoted"
    aliases = ", ".join(model["aliases"]) or "none"
    head = f"{model['name']} version {model['version']}: {word}; aliases: {aliases}"
    return [head, *(f"  {'ok  ' if rule['passed'] else 'FAIL'} {rule['text']}" for rule in summary["verdict"]["rules"])]


def _clips(summary: dict[str, Any]) -> str:
    clips = summary["clips"]
    rejects = ", ".join(f"{reason} {count}" for reason, count in sorted(clips["rejects"].items())) or "none"
    kept = ", ".join(f"{use} {count}" for use, count in summary["selection"]["kept"].items())
    dropped = ", ".join(f"{reason} {item['count']}" for reason, item in summary["selection"]["dropped"].items())
    return (
        f"{clips['sources']} sources, {clips['clips']} clips; rejected: {rejects}\n"
        f"selected: {kept or 'none'}; dropped: {dropped or 'none'}"
    )


def _metrics(metrics: dict[str, dict[str, dict[str, float | None]]]) -> Table:
    table = Table("metric", "condition", "mean", "95 % interval", title="evaluation", title_justify="left")
    for metric, conditions in metrics.items():
        for condition, value in conditions.items():
            table.add_row(metric, condition, _number(value["mean"]), _interval(value))
    return table


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


def _interval(value: dict[str, float | None]) -> str:
    return "" if value["mean"] is None else f"{_number(value['low'])} .. {_number(value['high'])}"
