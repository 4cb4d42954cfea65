"""The engine's checkpoints at every ZeRO stage, resumed on as many ranks and on others, and the average with them.

Three launches of `elastic.py`, each of which runs all stages: two ranks, then one rank (which also goes on from what
two ranks saved), then two ranks that go on from what one saved.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from .elastic import DECAY, Regression, rows

STAGES = (0, 1, 2, 3)
STEPS, EVERY = 6, 3
Found = dict[str, Any]


def launch(ranks: int, plans: list[dict[str, Any]], folder: Path) -> None:
    file = folder / f"plan-{ranks}-{len(list(folder.iterdir()))}.json"
    file.write_text(json.dumps(plans))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    done = subprocess.run(
        [*command, "-m", "tests.unit.training.elastic", str(file)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, check=False,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]


def plan(
    root: Path, name: str, stage: int, steps: int = STEPS, precision: str = "fp32", out: str = ""
) -> dict[str, Any]:
    return {
        "folder": str(root / name), "zero_stage": stage, "precision": precision, "steps": steps, "every": EVERY,
        "out": str(root / f"{out or name}.pt"),
    }  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("elastic")
    kinds = [(stage, "fp32") for stage in STAGES] + [(2, "bf16"), (3, "bf16")]

    def all_plans(name: str, out: str = "") -> list[dict[str, Any]]:
        return [plan(root, f"{name}-{s}-{p}", s, precision=p, out=f"{out or name}-{s}-{p}") for s, p in kinds]

    wide = [plan(root, f"wide-{stage}-bf16", stage, steps=2, precision="bf16") | {"wide": True} for stage in (2, 3)]
    launch(2, all_plans("two") + wide, root)
    # A run is over at its last step, so going on means: the newest checkpoint is of step 3.
    launch(1, [*all_plans("one"), *all_plans("one", "one-again"), *all_plans("two", "two-to-one")], root)
    launch(2, [*all_plans("one", "one-to-two"), *all_plans("two", "two-again")], root)
    return root


def read(results: Path, name: str, stage: int, precision: str = "fp32") -> Found:
    found: Found = torch.load(results / f"{name}-{stage}-{precision}.pt")
    return found


KINDS = [*((stage, "fp32") for stage in STAGES), (2, "bf16"), (3, "bf16")]


@pytest.mark.parametrize(("stage", "precision"), KINDS)
@pytest.mark.parametrize("name", ["one", "two"])
def test_going_on_at_the_same_world_size_is_exact_to_the_bit(
    results: Path, name: str, stage: int, precision: str
) -> None:
    straight, again = read(results, name, stage, precision), read(results, f"{name}-again", stage, precision)
    assert (straight["start"], again["start"]) == (0, EVERY)
    assert again["losses"] == straight["losses"][EVERY:]
    assert again["norms"] == straight["norms"][EVERY:]
    for what in ("weights", "average"):
        for found, wanted in zip(again[what], straight[what][EVERY:], strict=True):
            assert all(torch.equal(found[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize(("stage", "precision"), KINDS)
@pytest.mark.parametrize(("name", "origin"), [("two-to-one", "two"), ("one-to-two", "one")])
def test_going_on_at_another_world_size_follows_the_same_curve(
    results: Path, name: str, origin: str, stage: int, precision: str
) -> None:
    found, straight = read(results, name, stage, precision), read(results, origin, stage, precision)
    assert found["start"] == EVERY
    # Ranks sum gradients in another order: roundings of float32; under bf16 autocast, of its eight bits.
    tolerance = 1e-5 if precision == "fp32" else 2e-2
    assert found["losses"] == pytest.approx(straight["losses"][EVERY:], rel=tolerance)
    for what in ("weights", "average"):
        for one, other in zip(found[what], straight[what][EVERY:], strict=True):
            for key in other:
                torch.testing.assert_close(one[key], other[key], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_and_world_size_trains_as_plain_adamw_in_float64(results: Path, stage: int) -> None:
    module = Regression().double()
    trained = [each for each in module.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(trained, weight_decay=0.0)
    losses, norms = [], []
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = _rate(step)
        optimizer.zero_grad()
        loss = module(rows(step).double())
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(trained, 0.5)))
        optimizer.step()
        losses.append(float(loss.detach()))
    for name in ("one", "two"):
        found = read(results, name, stage)
        # Float32 against float64 over six steps.
        assert found["losses"] == pytest.approx(losses, rel=1e-4)
        assert found["norms"] == pytest.approx(norms, rel=1e-4)


def _rate(step: int) -> float:
    """Warm-up over two steps, then a cosine over four down to a tenth, written out."""
    return 0.05 * [0.5, 1.0, 1.0, 0.1 + 0.9 * 0.85355339, 0.1 + 0.9 * 0.5, 0.1 + 0.9 * 0.14644661][step]


@pytest.mark.parametrize("stage", STAGES)
def test_the_average_follows_its_law_in_float64(results: Path, stage: int) -> None:
    found = read(results, "two", stage)
    average = {key: value.double() for key, value in found["weights"][0].items()}
    for update, (weights, kept) in enumerate(zip(found["weights"], found["average"], strict=True)):
        decay = min(DECAY, (1 + update) / (10 + update)) if update else 0.0
        average = {key: decay * average[key] + (1 - decay) * value.double() for key, value in weights.items()}
        for key, value in average.items():
            torch.testing.assert_close(kept[key].double(), value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("stage", "precision"), KINDS)
@pytest.mark.parametrize("name", ["one", "two"])
def test_the_best_weights_are_kept_and_go_with_their_checkpoint(
    results: Path, name: str, stage: int, precision: str
) -> None:
    straight, again = read(results, name, stage, precision), read(results, f"{name}-again", stage, precision)
    losses = straight["held_out"]
    for found, best in ((straight["best"], losses.index(min(losses))), (again["best"], losses.index(min(losses)))):
        assert all(torch.equal(found[key], straight["weights"][best][key]) for key in found)
    # The straight run went on after that checkpoint and left a later best, if it had one.
    then = losses[:EVERY].index(min(losses[:EVERY]))
    assert all(torch.equal(again["best_resumed"][key], straight["weights"][then][key]) for key in again["best_resumed"])
    assert again["held_out"] == losses[EVERY:]


@pytest.mark.parametrize("stage", [2, 3])
def test_weights_that_are_seen_whole_are_not_rounded_by_bfloat16(results: Path, stage: int) -> None:
    found = read(results, "wide", stage, "bf16")
    for weights in (*found["weights"], found["best"]):
        for each in weights.values():
            assert not torch.equal(each, each.bfloat16().float())


@pytest.mark.parametrize("stage", STAGES)
def test_checkpoints_hold_no_frozen_weights_and_the_average(results: Path, stage: int) -> None:
    folder = results / f"one-{stage}-fp32" / f"step{EVERY:08d}"
    names = {path.name for path in folder.iterdir()}
    assert {"checkpoint.json", "average.safetensors"} < names
    kept = torch.load(next(folder.glob("*model_states.pt")), weights_only=False)
    stored = set(kept["module"]) if stage < 3 else {name for group in kept["param_shapes"] for name in group}
    assert stored == {"enter.weight", "enter.bias", "leave.weight"}
    assert not list((results / f"one-{stage}-fp32").glob(".*")), "nothing half written stays"


def test_another_zero_stage_is_refused_by_name(results: Path, tmp_path: Path) -> None:
    plans = [plan(results, "one-1-fp32", 3, out="refused")]
    with pytest.raises(AssertionError) as caught:
        launch(1, plans, tmp_path)
    said = str(caught.value)
    assert "was written at ZeRO stage 1, this run is at stage 3" in said
    assert "set zero_stage back to 1" in said
