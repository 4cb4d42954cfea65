"""How much of what is planted curation finds, and what it costs.

Every planted kind and many clean files are made with fresh seeds and go through the real stages up to `select`; the
truth then says what was found. Kinds are planted far more often than a mix has them (0.2 % of 50 000 files would be
100), and weighted to the mix's shares where a share of the whole is stated; recalls are counted directly. No reviewer
takes part. The learned scorer is trained in a world of its own (another seed, the harsh mix, without the held-out
classes), by the same stages, and then used as it is.

    python benchmarks/planted.py --workspace DIR [--quick]

Worlds and results stay in the workspace: a second call only reads them. Writes `planted.json` there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from environment import describe_environment
from planted_fates import Fate, planted_path, read_fates
from planted_tables import DETECTED, TARGETS, Table, detection, losses, offsets, periodic, selection, synchrony

from soundstage.catalog import STAGES, run_stage
from soundstage.config import SoundstageConfig, load_config
from soundstage.curation.scorer.reference import scorer_folder
from soundstage.stages import StageRecord, Workspace
from soundstage.synth.scene import CATALOGUE

_EXAMPLES = 8


def stages_up_to(name: str) -> list[str]:
    """The stage and all it needs, in an order in which they can run."""
    order: list[str] = []
    for source in STAGES[name].inputs.values():
        order += [stage for stage in stages_up_to(source) if stage not in order]
    return [*order, name]


def run_world(
    workspace: Workspace, config: SoundstageConfig, last: str, seconds: dict[str, dict[str, float]]
) -> dict[str, StageRecord]:
    """Run the stages up to `last`; how long each took when it ran goes to `seconds`."""
    records: dict[str, StageRecord] = {}
    world = workspace.root.name
    for name in stages_up_to(last):
        stage = STAGES[name]
        inputs = {key: records[source] for key, source in stage.inputs.items()}
        done = run_stage(name, stage.slice_of(config), inputs, workspace)
        records[name] = done.record
        seconds.setdefault(world, {})[name] = round(done.seconds, 1)
        print(f"{world}: {name} {'found' if done.skipped else 'ran'} ({done.seconds:.0f} s)", flush=True)
    return records


def train_curator(arguments: argparse.Namespace, seconds: dict[str, dict[str, float]]) -> Path:
    """The folder of a scorer trained on a world that has none of the held-out classes."""
    seen = [kind.label for kind in CATALOGUE if kind.label not in arguments.held_out]
    overrides = [
        f"synth.seed={arguments.training_seed}",
        f"synth.clips={arguments.training_clips}",
        "synth.mix=harsh",
        f"synth.class_names={json.dumps(seen)}",
        "split.judge=0.0",
    ]
    workspace = Workspace.open(arguments.workspace / "training")
    config = load_config(arguments.preset, overrides=[*overrides, *arguments.overrides])
    record = run_world(workspace, config, "curator", seconds)["curator"]
    found = scorer_folder(record, workspace)
    if found is None:
        raise SystemExit(f"no scorer: {record.notes['scorer']}; raise --training-clips, or give --no-scorer")
    return found


def measure_world(
    arguments: argparse.Namespace, seed: int, scorer: Path | None, seconds: dict[str, dict[str, float]]
) -> list[Fate]:
    """Make one world of all classes and kinds, curate it, and say what became of its files."""
    overrides = [
        f"synth.seed={seed}",
        f"synth.clips={arguments.clips}",
        f"synth.defects_each={arguments.each}",
        f"synth.planted={json.dumps(dict.fromkeys(('shifted', 'swapped'), arguments.sync_each))}",
        "split.judge=0.0",
        "review.reviewer=none",
    ]
    overrides.append("curator.min_clips=1000000000" if scorer is None else f"curator.pretrained={str(scorer)!r}")
    workspace = Workspace.open(arguments.workspace / f"seed-{seed}")
    config = load_config(arguments.preset, overrides=[*overrides, *arguments.overrides])
    records = run_world(workspace, config, "select", seconds)
    return read_fates(workspace.root.name, workspace, records, arguments.held_out)


def mistakes(fates: Sequence[Fate], root: Path) -> dict[str, list[dict[str, Any]]]:
    """Some files of every kind that were missed, and some that were taken for the kind, with their signals."""
    found: dict[str, list[dict[str, Any]]] = {}
    for kind in TARGETS:
        for name, wrong in (
            (f"{kind}: missed", [f for f in fates if f.defect == kind and not DETECTED[kind](f)]),
            (f"{kind}: false alarm", [f for f in fates if f.defect != kind and DETECTED[kind](f)]),
        ):
            found[name] = [_described(fate, root) for fate in wrong[:_EXAMPLES]]
    turned_away = [f for f in fates if f.is_wanted and not f.is_kept]
    found["aligned or correctable, turned away"] = [_described(fate, root) for fate in turned_away[:_EXAMPLES]]
    not_aligned = [f for f in fates if f.is_kept and not f.is_aligned]
    found["kept, not aligned"] = [_described(fate, root) for fate in not_aligned[:_EXAMPLES]]
    return {name: examples for name, examples in found.items() if examples}


def _described(fate: Fate, root: Path) -> dict[str, Any]:
    fields = ("label", "defect", "audio_shift_sec", "event_times_sec", "offset_identifiable")
    return {
        "file": planted_path(root, fate),
        **{name: fate.truth[name] for name in fields},
        "reject": fate.reject,
        "reasons": fate.reasons,
        "correction_sec": fate.shift_sec,
        "signals": dict(fate.signals) if fate.signals else None,
    }


def make_tables(fates: Sequence[Fate]) -> dict[str, Table]:
    """All tables by name."""
    tables = {"losses": losses(fates), "detection": detection(fates), "selection": selection(fates)}
    return tables | {"synchrony": synchrony(fates), "offsets": offsets(fates), "periodic": periodic(fates)}


def parse_arguments() -> argparse.Namespace:
    """The command line; `--quick` is for checks of the benchmark itself and supports no claim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="one small world")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--seeds", type=int, nargs="+", default=[601, 602, 603], help="of the worlds measured")
    parser.add_argument("--clips", type=int, default=400, help="clean files of a world")
    parser.add_argument("--each", type=int, default=40, help="files of every planted kind in a world")
    parser.add_argument("--sync-each", type=int, default=80, help="the same for shifted and swapped ones")
    parser.add_argument("--training-seed", type=int, default=91, help="of the world the scorer is trained on")
    parser.add_argument("--training-clips", type=int, default=450, help="its clean files")
    parser.add_argument("--held-out", nargs="+", default=["hammer", "bird"], help="classes it does not have")
    parser.add_argument("--no-scorer", action="store_true", help="train none: figures of the other signals alone")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="a.b=c")
    arguments = parser.parse_args()
    arguments.workspace = arguments.workspace.expanduser().resolve()
    unknown = sorted(set(arguments.held_out) - {kind.label for kind in CATALOGUE})
    if unknown:
        parser.error(
            f"--held-out: no class is called {', '.join(unknown)}; classes: {', '.join(k.label for k in CATALOGUE)}"
        )
    if arguments.training_seed in arguments.seeds:
        parser.error(
            f"--training-seed {arguments.training_seed} is also measured; a scorer is not judged by its own clips"
        )
    if arguments.quick:
        small = {"seeds": arguments.seeds[:1], "clips": 40, "each": 4, "sync_each": 8, "training_clips": 40}
        vars(arguments).update(small)
    return arguments


def main() -> None:
    """Run and print."""
    arguments = parse_arguments()
    seconds: dict[str, dict[str, float]] = {}
    start = time.monotonic()
    scorer = None if arguments.no_scorer else train_curator(arguments, seconds)
    fates = [fate for seed in arguments.seeds for fate in measure_world(arguments, seed, scorer, seconds)]
    tables = make_tables(fates)
    print(f"\n{len(fates)} files of seeds {arguments.seeds}, preset {arguments.preset}, held out {arguments.held_out}.")
    if scorer is None:
        print("No learned scorer: its rows are empty.")
    print("Intervals are of 95 %: Wilson's for counts, Jeffreys' posterior for weighted shares, bootstrap for areas.")
    for table in tables.values():
        print(table)
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(arguments).items()}
    report = {
        "environment": describe_environment(),
        "settings": settings,
        "seconds": seconds | {"this call": round(time.monotonic() - start, 1)},
        "tables": {name: table.values for name, table in tables.items()},
        "mistakes": mistakes(fates, arguments.workspace),
    }
    out = arguments.workspace / "planted.json"
    out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"\n{out}")


if __name__ == "__main__":
    main()
