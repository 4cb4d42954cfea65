"""`soundstage plan`: memory, time and storage of a run before a GPU is held."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError
from .options import ConfigOption, PresetOption, SetOption, WorkspaceOption, resolve_config

if TYPE_CHECKING:
    from ..planning.figures import Figure
    from ..planning.plan import Plan, StagePlan


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("plan")(plan)


def plan(
    clips: Annotated[int, typer.Option("--clips", min=1, help="Clips that training will have.")],
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="GPUs, one rank each.")],
    gpu: Annotated[str, typer.Option("--gpu", help="Kind of GPU, by its name in the calibration.")] = "h100",
    calibration: Annotated[
        Path | None, typer.Option("--calibration", help="YAML or JSON file in place of the package's own.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    preset: PresetOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Tell memory a rank, step time, storage and hours of each stage; exit 2 when a stage does not fit.

    Nothing is downloaded and no GPU is needed.
    """
    tree = resolve_config(preset, config, overrides or [], workspace)
    from ..planning.calibration import load_calibration
    from ..planning.plan import make_plan, plan_report

    made = make_plan(tree, clips, gpus, gpu, load_calibration(calibration))
    if as_json:
        print(json.dumps(plan_report(made), indent=2))
    else:
        _print(made)
    # Last, so that the refusal comes with the figures that show why.
    _refuse(made)


def _print(made: Plan) -> None:
    from ..planning.figures import gib
    from ..planning.plan import storage_figures, time_figures

    limit = gib(made.gpu.memory_gb * 1e9)
    print(f"{made.config.preset}: {made.clips:,} clips, {made.gpus} x {made.gpu_name} of {limit}")
    _section("storage", storage_figures(made.storage))
    _section("encode: memory of a worker", made.encode["memory"])
    _section("encode: time", made.encode["time"])
    for stage in made.stages:
        setting = ", ".join(f"{name}={value}" for name, value in stage.configured.setting._asdict().items())
        memory = stage.configured.memory | {"all": gib(stage.configured.bytes, "assumed")}
        _section(f"{stage.stage}: memory of a GPU ({setting})", memory)
        _section(f"{stage.stage}: memory of its host", stage.host)
        _section(f"{stage.stage}: time", time_figures(stage, made))


def _section(title: str, figures: Mapping[str, Figure]) -> None:
    print(f"\n{title}")
    for name, figure in figures.items():
        print(f"  {name:28}{figure!s:>24}  {figure.origin}")


def _refuse(made: Plan) -> None:
    """Name what does not fit, by how much, and what would.

    Raises:
        ConfigError: something does not fit.
    """
    words = [_too_large(stage, made) for stage in made.stages if not stage.fits]
    over = made.encode_bytes - made.gpu.memory_gb * 1e9
    if over > 0:
        words.append(f"encode: a worker needs {over / 2**30:.1f} GiB more than a {made.gpu_name} has")
    if words:
        raise ConfigError("\n".join(words))


def _too_large(stage: StagePlan, made: Plan) -> str:
    needed, limit = stage.configured.bytes / 2**30, stage.limit / 2**30
    head = f"{stage.stage} needs {needed:.1f} GiB of a {made.gpu_name}'s {limit:.1f}, {needed - limit:.1f} GiB too much"
    if not stage.proposals:
        least = f"{stage.least.bytes / 2**30:.1f} GiB at {stage.least.setting}"
        return f"{head}; no micro batch, ZeRO stage or checkpointing fits, the least is {least}: take a larger GPU"
    lines = [
        f"  {' '.join(f'--set {each}' for each in stage.overrides(proposal))}"
        f"   {proposal.bytes / 2**30:.1f} GiB, {proposal.pace.step:.2f} s a step"
        for proposal in stage.proposals
    ]
    return "\n".join([f"{head}; these fit, fastest first:", *lines])
