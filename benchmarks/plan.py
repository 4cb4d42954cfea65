"""Whether the planner's memory is what a training step takes.

Every case is a process of its own: a transformer of a family's real width with random weights and few blocks, our
adapters and objective, one forward and one backward pass. Measured is the kernel's peak of resident memory in them
above that just before, against what `planning.step` counts on tensors without data.

    python benchmarks/plan.py [--json FILE]

Each case runs twice: with glibc's allocator as it is, and with its threshold for mapping memory fixed. As it is, the
threshold moves up to 32 MiB, and freed tensors below it leave holes that the process keeps; larger ones are mapped and
returned. The planner counts what is held, not holes.

What a CPU cannot tell: the GPU's allocator, its kernels' workspaces, and communication buffers.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from environment import describe_environment

from soundstage.config import SoundstageConfig, load_config
from soundstage.models.backbones.base import Backbone
from soundstage.models.backbones.load import FAMILIES
from soundstage.models.conditioned import AudioAdapters, AudioConditionedTransformer
from soundstage.models.info import backbone_on_meta, declared_grids, model_info, on_meta
from soundstage.planning.shapes import sample_shape
from soundstage.planning.step import count_step, fake_batch
from soundstage.training.objective import DenoisingObjective

GIB = 2**30


@dataclass(frozen=True)
class Case:
    """A preset with so many blocks at another window."""

    preset: str
    blocks: int
    window: str
    precision: str = "fp32"
    checkpointing: bool = False
    micro_batch: int = 1

    @property
    def config(self) -> SoundstageConfig:
        """The preset changed; frozen weights are of the precision that is trained at."""
        return load_config(
            self.preset,
            overrides=[
                f"window={self.window}",
                f"model.backbone.dtype={self.precision}",
                f"pretrain.precision={self.precision}",
                f"pretrain.activation_checkpointing={str(self.checkpointing).lower()}",
                f"pretrain.micro_batch={self.micro_batch}",
            ],
        )


WAN = "{num_frames: 17, fps: 16, size: 256, width: 256}"
LTX = "{num_frames: 49, fps: 25, size: 384, width: 512}"
CASES = [
    Case("wan2.1-t2v-1.3b", 6, WAN),
    Case("wan2.1-t2v-1.3b", 3, WAN, micro_batch=5),
    Case("wan2.1-t2v-1.3b", 6, WAN, checkpointing=True, micro_batch=5),
    Case("ltx-video-2b", 3, LTX, micro_batch=4),
    # Processors without bfloat16 take minutes to hours for this one.
    Case("wan2.1-t2v-1.3b", 6, WAN, precision="bf16", micro_batch=2),
]
# Off the way of glibc's own adjustment, by setting it.
FIXED = {"MALLOC_MMAP_THRESHOLD_": "1048576"}


def real_backbone(config: SoundstageConfig, blocks: int) -> Backbone:
    """The backbone of few blocks with random weights in the configured type."""
    backbone = backbone_on_meta(config.model.backbone)
    kind = FAMILIES[config.model.backbone.family]
    del backbone.blocks[blocks:]
    transformer: Any = backbone.transformer
    kept = tuple(getattr(transformer, "_keep_in_fp32_modules", None) or ())
    half = config.model.backbone.dtype == "bf16"
    for path, part in transformer.named_modules():
        for name, weight in list(part._parameters.items()):
            if weight is not None:
                single = not half or any(word in kept for word in [*path.split("."), name])
                data = torch.empty(weight.shape, dtype=torch.float32 if single else torch.bfloat16)
                part._parameters[name] = torch.nn.Parameter(data.normal_(std=0.02), requires_grad=False)
    # Tables of positions are computed when a model is made: a small one of the same settings has the same.
    import diffusers

    sizes = dict(transformer.config) | {"num_layers": 1}
    made = getattr(diffusers, kind.transformer_class).from_config(sizes)
    for path, part in made.named_modules():
        for name, buffer in part._buffers.items():
            transformer.get_submodule(path)._buffers[name] = buffer
    return backbone


def measure(case: Case) -> dict[str, float]:
    """GiB of peak growth in forward and backward pass, and seconds; run in a fresh process."""
    torch.set_num_threads(1)
    config = case.config
    torch.manual_seed(0)
    backbone = real_backbone(config, case.blocks)
    if case.checkpointing:
        backbone.checkpoint_activations()
    adapters = AudioAdapters(backbone, declared_grids(config), config.model.adapter)
    model = AudioConditionedTransformer(backbone, adapters)
    objective = DenoisingObjective(backbone, model, config.model, config.window, config.pretrain)
    batch = fake_batch(sample_shape(config, on_meta(config)), case.micro_batch)
    # Libraries load code and make pools at first use: not a step's memory.
    with torch.autocast("cpu", torch.bfloat16, enabled=case.precision == "bf16"), torch.no_grad():
        torch.nn.functional.linear(torch.ones(64, 64), torch.ones(64, 64))
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the kernel's peak starts anew
    before, begun = _status("VmRSS:"), time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=case.precision == "bf16"):
        loss = objective(batch)
    after = _status("VmRSS:")
    loss.backward()
    return {"peak": _status("VmHWM:") - before, "kept": after - before, "seconds": time.perf_counter() - begun}


def _status(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024 / GIB


def compare(case: Case) -> dict[str, Any]:
    """Counted and measured side by side."""
    config = case.config
    sample = sample_shape(config, on_meta(config))
    counted = count_step(config, config.pretrain, sample, "cpu", blocks=case.blocks)
    plain, measured = in_process(case, {}), in_process(case, FIXED)
    return {
        "case": asdict(case),
        "tokens": case.micro_batch * _tokens(config),
        "counted_peak_gib": counted.peak / GIB,
        "measured_peak_gib": measured["peak"],
        "default_allocator_peak_gib": plain["peak"],
        "counted_kept_gib": counted.kept / GIB,
        "measured_kept_gib": measured["kept"],
        "error": counted.peak / GIB / measured["peak"] - 1,
        "default_allocator_error": counted.peak / GIB / plain["peak"] - 1,
        "tflop": (counted.forward_flop + counted.backward_flop) / 1e12,
        "seconds": measured["seconds"],
        "default_allocator_seconds": plain["seconds"],
    }


def in_process(case: Case, environment: dict[str, str]) -> dict[str, float]:
    """`measure` in a fresh process, whose allocator reads `environment` when it starts."""
    os.environ.update(environment)
    try:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(measure, (case,))
    finally:
        for name in environment:
            del os.environ[name]


def _tokens(config: SoundstageConfig) -> int:
    return int(model_info(config, on_meta(config))["window"]["tokens"])


def report(results: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| preset, blocks | tokens | precision | checkpointing | counted peak, GiB | measured, threshold fixed | "
        "measured, allocator as it is |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for each in results:
        case = each["case"]
        lines.append(
            f"| {case['preset']}, {case['blocks']} | {each['tokens']:,} | {case['precision']} | "
            f"{'yes' if case['checkpointing'] else 'no'} | {each['counted_peak_gib']:.2f} | "
            f"{each['measured_peak_gib']:.2f} ({each['error']:+.1%}) | "
            f"{each['default_allocator_peak_gib']:.2f} ({each['default_allocator_error']:+.1%}) |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run every case and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where to write every number")
    parser.add_argument("--cases", type=int, nargs="*", help="only these, by their place")
    arguments = parser.parse_args()
    chosen = [CASES[place] for place in arguments.cases] if arguments.cases else CASES
    results = []
    for case in chosen:
        results.append(compare(case))
        print(json.dumps(results[-1]), flush=True)
    print(report(results))
    if arguments.json:
        arguments.json.write_text(json.dumps({"environment": describe_environment(), "results": results}, indent=2))


if __name__ == "__main__":
    main()
