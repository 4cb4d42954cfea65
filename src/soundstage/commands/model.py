"""`soundstage model`: what presets stand for, told without downloading or loading a weight."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..config import load_config, preset_names
from .options import ConfigOption, PresetOption, SetOption, WorkspaceOption, resolve_config

if TYPE_CHECKING:
    from rich.table import Table

_PIPED_WIDTH = 160

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="What presets stand for: backbone, shapes, trainable share.")
    group.command("list")(list_models)
    group.command("info")(info)
    app.add_typer(group, name="model")


def list_models(as_json: JsonOption = False) -> None:
    """List presets: backbone, trainable share, how the first frame is given, licence."""
    from ..models.info import model_info, on_meta

    trees = [load_config(name) for name in preset_names()]
    reports = [model_info(tree, on_meta(tree)) for tree in trees]
    if as_json:
        print(json.dumps(reports, indent=2))
    else:
        _show(_listing(reports))


def info(
    preset: PresetOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Show shapes, audio encoders and trainable parameters of a configuration; exit 2 when they exceed the budget."""
    tree = resolve_config(preset, config, overrides or [], workspace)
    from ..models.conditioned import check_budget
    from ..models.info import model_info, on_meta

    model = on_meta(tree)
    report = model_info(tree, model)
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        for table in _sections(report):
            _show(table)
    # Last, so that a breach comes with the figures that show where to save.
    check_budget(model.adapters, model.backbone.transformer, tree.model.adapter.max_share)


def _listing(reports: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("preset", "family", "backbone", "parameters", "trainable", "first frame", "licence"):
        right = heading in ("parameters", "trainable")
        table.add_column(heading, justify="right" if right else "left", overflow="fold", no_wrap=heading == "preset")
    for report in reports:
        about = report["backbone"]
        table.add_row(
            report["preset"],
            about["family"],
            about["origin"],
            _count(about["parameters"]),
            f"{report['trainable_share']:.2%}",
            "experimental" if about["experimental"] else "native",
            about["licence"],
        )
    return table


def _sections(report: dict[str, Any]) -> list[Table]:
    about, window, adapter, parts = (report[name] for name in ("backbone", "window", "adapter", "breakdown"))
    revision = "" if about["revision"] is None else f" at {about['revision'][:12]}"
    way = "experimental: the checkpoint was not trained for it" if about["experimental"] else "native"
    rows = {
        "preset": report["preset"],
        "backbone": f"{about['origin']}{revision}, family {about['family']}, {about['dtype']}",
        "licence": about["licence"],
        "transformer": f"{about['parameters']:,} parameters, {about['blocks']} blocks of width {about['hidden_dim']}",
        "predicts": f"{about['prediction']}; scheduler {about['scheduler']}",
        "first frame": f"{about['first_frame']}, {way}",
        "made for": _native(about),
        "text": about["text"] or "as its folder has it",
        "window": f"{window['num_frames']} frames of {window['height']} x {window['width']} at {window['fps']} fps, "
        f"{window['seconds']:.2f} s: {window['latent_frames']} latent frames, {window['tokens']} tokens",
        "adapter": f"inner width {adapter['inner_dim']}, {adapter['heads']} heads, audio width {adapter['audio_dim']}, "
        f"{adapter['window_sec']} s on either side, {adapter['placement']} blocks, every {adapter['every']}",
        "trainable": f"{report['trainable_parameters']:,}, {report['trainable_share']:.3%} of the transformer; allowed "
        f"are {report['max_share']:.1%}",
        **{f"  {name}": f"{count:,}" for name, count in parts.items()},
    }
    return [_pairs(rows), _encoders(report["audio"])]


def _pairs(rows: dict[str, str]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _encoders(audio: dict[str, dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("hears through", "type", "width", "every", "in a window", "licence"):
        table.add_column(heading, overflow="fold")
    for name, each in audio.items():
        least, most = each["features_per_latent_frame"]
        seen = str(most) if least == most else f"{least} to {most}"
        table.add_row(name, each["type"], str(each["dim"]), f"{each['hop_sec'] * 1e3:.4g} ms", seen, each["licence"])
    return table


def _native(about: dict[str, Any]) -> str:
    packs = f"a latent packs {about['temporal_stride']} x {about['spatial_stride']} x {about['spatial_stride']} pixels"
    if about["native_fps"] is None:
        return packs
    height, width = about["native_size"]
    return f"{about['native_frames']} frames of {height} x {width} at {about['native_fps']} fps; {packs}"


def _count(parameters: int) -> str:
    return f"{parameters / 1e9:.2f} B" if parameters >= 1e9 else f"{parameters / 1e6:.2f} M"


def _show(table: Table) -> None:
    from rich.console import Console

    # What is piped is not folded for a terminal that is not there.
    width = None if sys.stdout.isatty() else _PIPED_WIDTH
    Console(width=width, markup=False, highlight=False).print(table)
