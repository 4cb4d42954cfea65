"""Whether the demonstration learns sync, whatever the seed.

Runs a preset's data stages once and its training and evaluation for each seed (backbone, stage one, stage two
and sampling noise all take it), then prints the table that stands in docs/results.md and writes it as JSON.

    python benchmarks/seeds.py --workspace DIR [--preset tiny] [--seeds 0 1 2]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from environment import describe_environment

from soundstage.catalog import STAGES, run_stage
from soundstage.config import load_config
from soundstage.stages import StageRecord, Workspace

STAGES_RUN = [name for name in STAGES if name not in ("register", "promote")]
CONDITIONS = ("true", "swapped", "late", "silent", "no_audio", "stage_one")


def evaluate_seed(workspace: Workspace, preset: str, seed: int, overrides: list[str]) -> dict[str, Any]:
    """Run every stage up to the evaluation with this seed; returns `evaluation.json` and the seconds of each stage."""
    seeded = [f"{part}.seed={seed}" for part in ("backbone", "pretrain", "finetune", "evaluate")]
    config = load_config(preset, overrides=[*overrides, *seeded])
    records: dict[str, StageRecord] = {}
    seconds: dict[str, float] = {}
    for name in STAGES_RUN:
        stage = STAGES[name]
        inputs = {key: records[source] for key, source in stage.inputs.items()}
        done = run_stage(name, stage.slice_of(config), inputs, workspace)
        records[name], seconds[name] = done.record, round(done.seconds, 1)
        print(f"seed {seed}: {name} {'found' if done.skipped else 'ran'} ({done.seconds:.0f} s)", flush=True)
    result = json.loads(workspace.output(records["evaluate"], "evaluation.json").read_text())
    share = records["finetune"].metrics["trainable_share"]
    return {"seed": seed, "evaluation": result, "seconds": seconds, "trainable_share": share}


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: one row a seed, mean and 95 % interval of each condition."""
    head = "| seed | " + " | ".join(CONDITIONS) + " | stage two - stage one |"
    lines = [head, "|" + " --- |" * (len(CONDITIONS) + 2)]
    for result in results:
        measured = result["evaluation"]["metrics"]["motion_corr"]
        cells = [_cell(measured[name]) for name in CONDITIONS]
        paired = _cell(result["evaluation"]["paired"]["stage_two_minus_stage_one"])
        lines.append(f"| {result['seed']} | " + " | ".join(cells) + f" | {paired} |")
    means = [
        sum(r["evaluation"]["metrics"]["motion_corr"][name]["mean"] for r in results) / len(results)
        for name in CONDITIONS
    ]
    paired_mean = sum(r["evaluation"]["paired"]["stage_two_minus_stage_one"]["mean"] for r in results) / len(results)
    lines.append("| mean | " + " | ".join(f"{value:.3f}" for value in means) + f" | {paired_mean:+.3f} |")
    return "\n".join(lines)


def _cell(entry: dict[str, float]) -> str:
    return f"{entry['mean']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="a.b=c")
    arguments = parser.parse_args()
    workspace = Workspace.open(arguments.workspace)
    preset, overrides = arguments.preset, arguments.overrides
    results = [evaluate_seed(workspace, preset, seed, overrides) for seed in arguments.seeds]
    print(table(results))
    report = {"environment": describe_environment(), "preset": preset, "results": results}
    (workspace.root / "seeds.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
