"""What hearing costs: training steps and sampling of a frozen video transformer with and without audio.

One run, interleaved: every round times one step of each variant, so that a busy machine slows all of them.

    frozen      forward and backward through the activations of the frozen backbone: the price of its gradient alone
    adapters    the same with our windowed adapters, and AdamW over them
    dense       the same with audio attention of every video token over all audio tokens under a dense mask, as AVSyncD
                masks it, with equal widths
    full        every weight of the backbone trains, AdamW over all of it

    python benchmarks/adapter.py [--rounds 9] [--threads 1] [--gpu] [--json FILE]

In all but `full` the gradient runs down to the backbone's input. Adapters alone would not need it below the first of
them, which flatters them the more the fewer blocks there are.

Weights are random: time and memory do not depend on them. On a CPU the shapes are the demonstration's stand-in, and two
blocks of Wan 2.1 1.3B and of LTX-Video 2B on a small picture; with --gpu, whole transformers of the two in bfloat16 at
their presets' windows.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from environment import describe_environment
from torch import nn

from soundstage.config import load_config
from soundstage.config.tree import AdapterConfig
from soundstage.models.adapter import AudioContext, WindowedAudioAttention
from soundstage.models.audio.base import FeatureGrid
from soundstage.models.backbones.base import Backbone, TextEmbedding
from soundstage.models.backbones.load import FAMILIES, new_backbone
from soundstage.models.conditioned import AudioAdapters, AudioConditionedTransformer
from soundstage.models.sampling import Guidance, sample_latents
from soundstage.models.windows import AudioWindows, audio_windows, frame_spans

VARIANTS = ("frozen", "adapters", "dense", "full")
# Features of several encoders side by side, as the full-size presets hear.
GRIDS = {"mel": FeatureGrid(65, 0.01), "whisper": FeatureGrid(2304, 0.02, 0.01), "ast": FeatureGrid(768, 0.1)}
MARGIN_SEC = 0.5


@dataclass(frozen=True)
class Shape:
    """A transformer and a window to train it on."""

    name: str
    release: str
    """empty for the demonstration's stand-in"""
    layers: int | None
    """None: as published"""
    latent: tuple[int, int, int]
    """latent frames, height, width"""
    fps: int
    text_tokens: int
    adapter: AdapterConfig
    batch: int = 1
    dtype: torch.dtype = torch.float32
    device: str = "cpu"


def adapter_of(preset: str) -> AdapterConfig:
    """The preset's adapter, whatever share it is of a transformer with fewer blocks."""
    return load_config(preset).model.adapter.model_copy(update={"max_share": 1.0})


def shapes(gpu: bool) -> list[Shape]:
    """What is measured on this kind of machine."""
    wan, ltx = adapter_of("wan2.1-t2v-1.3b"), adapter_of("ltx-video-2b")
    if gpu:
        options: dict[str, Any] = {"dtype": torch.bfloat16, "device": "cuda"}
        return [
            Shape("Wan 2.1 1.3B, 33 x 480 x 832", "wan2.1-t2v-1.3b", None, (9, 60, 104), 16, 512, wan, **options),
            Shape("LTX-Video 2B, 49 x 512 x 704", "ltx-video-2b", None, (7, 16, 22), 25, 128, ltx, **options),
        ]
    tiny = adapter_of("tiny")
    return [
        Shape("stand-in of tiny, 12 x 32 x 32", "", None, (12, 32, 32), 6, 48, tiny, batch=16),
        Shape("2 blocks of Wan 2.1 1.3B, 17 x 128 x 128", "wan2.1-t2v-1.3b", 2, (5, 16, 16), 16, 64, wan),
        Shape("2 blocks of LTX-Video 2B, 33 x 256 x 256", "ltx-video-2b", 2, (5, 8, 8), 25, 64, ltx),
    ]


def backbone_of(shape: Shape) -> Backbone:
    """A backbone of the shape with random weights."""
    import diffusers

    torch.manual_seed(0)
    if not shape.release:
        return new_backbone(load_config("tiny").model.backbone, 0)
    kind = next(kind for kind in FAMILIES.values() if shape.release in kind.releases)
    release = kind.releases[shape.release]
    sizes = dict(release.transformer) | ({"num_layers": shape.layers} if shape.layers else {})
    previous = torch.get_default_dtype()
    torch.set_default_dtype(shape.dtype)
    try:
        with torch.device(shape.device):
            transformer = getattr(diffusers, kind.transformer_class)(**sizes)
    finally:
        torch.set_default_dtype(previous)
    scheduler = dict(release.scheduler)
    return kind(
        transformer=transformer,
        codec_shape=release.codec,
        scheduler_class=scheduler.pop("_class_name"),
        scheduler_config=scheduler,
        fingerprint="random",
        licence="none",
        origin="random weights",
        load_codec=lambda: None,  # type: ignore[arg-type, return-value]
        load_text=lambda: None,  # type: ignore[arg-type, return-value]
    )


class DenseMaskAttention(WindowedAudioAttention):
    """Every video token over every audio token of the clip, those outside its window masked: same weights, dense."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        context: AudioContext,
        keys_values: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """As the windowed one; the context holds all tokens as if there were one frame, `visible` being (F, T)."""
        batch, tokens, _ = hidden_states.shape
        spatial = tokens // len(context.visible)
        normed = self.norm(hidden_states.to(self.to_q.weight.dtype))
        query = self.to_q(normed).view(batch, tokens, self.heads, -1).transpose(1, 2)
        key, value = keys_values or self.keys_values(context)
        mask = context.visible.repeat_interleave(spatial, dim=0)
        attended = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        merged = attended.transpose(1, 2).reshape(batch, tokens, -1)
        return self.to_out(merged).to(hidden_states.dtype)


class Subject:
    """One variant over one shape: its own backbone, so that none inherits another's hooks."""

    def __init__(self, shape: Shape, variant: str) -> None:
        self.shape, self.variant = shape, variant
        self.backbone = backbone_of(shape)
        self.backbone.transformer.requires_grad_(variant == "full").train(False)
        grids = GRIDS if shape.release else {"mel": FeatureGrid(33, 0.01)}
        self.adapters = None
        if variant in ("adapters", "dense"):
            self.adapters = AudioAdapters(self.backbone, grids, shape.adapter).to(shape.device)
            if variant == "dense":
                self._make_dense()
            for attention in self.adapters.attentions.values():  # as if trained: zeros might be cheaper
                nn.init.normal_(attention.to_out.weight, std=0.02)
        self.model = AudioConditionedTransformer(self.backbone, self.adapters)
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-5) if trained else None
        self._draw(grids)

    def _make_dense(self) -> None:
        assert self.adapters is not None
        for name, attention in self.adapters.attentions.items():
            dense = DenseMaskAttention(self.backbone.hidden_dim, self.shape.adapter).to(self.shape.device)
            dense.load_state_dict(attention.state_dict())
            self.adapters.attentions[name] = dense

    def _draw(self, grids: dict[str, FeatureGrid]) -> None:
        shape, device = self.shape, self.shape.device
        frames, height, width = shape.latent
        stride = self.backbone.codec_shape.temporal_stride
        channels = self.backbone.codec_shape.channels
        generator = torch.Generator().manual_seed(1)
        self.noisy = torch.randn(shape.batch, channels, frames, height, width, generator=generator).to(device)
        config: Any = self.backbone.transformer.config
        text_dim = config.get("text_dim") or config.get("caption_channels")
        embedded = torch.randn(shape.batch, shape.text_tokens, text_dim, generator=generator)
        mask = torch.ones(shape.batch, shape.text_tokens, dtype=torch.bool)
        self.text = TextEmbedding(embedded, mask).to(torch.device(device))
        seconds = ((frames - 1) * stride + 1) / shape.fps
        spans = frame_spans(frames, shape.fps, stride)
        self.features, self.windows = {}, {}
        for name, grid in grids.items():
            count = round((seconds + 2 * MARGIN_SEC) / grid.hop_sec)
            times = grid.times_sec(count, -MARGIN_SEC)
            window = audio_windows(spans, times, shape.adapter.window_sec, grid.hop_sec)
            self.windows[name] = (_whole(window, count) if self.variant == "dense" else window).to(torch.device(device))
            self.features[name] = torch.randn(shape.batch, count, grid.dim, generator=generator).to(device)

    def context(self) -> AudioContext | None:
        """The audio of the batch, projected anew as in every training step."""
        if self.adapters is None:
            return None
        keep = torch.ones(self.shape.batch, device=self.shape.device)
        if self.variant != "dense":
            return self.adapters.context(self.features, self.windows, keep)
        one = {n: AudioWindows(w.index[:1], w.visible[:1] | True, w.relative_sec[:1]) for n, w in self.windows.items()}
        made = self.adapters.context(self.features, one, keep)
        visible = torch.cat([self.windows[name].visible for name in self.features], dim=1)
        return AudioContext(made.tokens, visible, False, keep)

    def step(self) -> None:
        """Forward, backward, and the optimizer if something trains."""
        noisy = self.noisy.clone().requires_grad_(self.variant != "full")
        timestep = torch.full((self.shape.batch,), 500.0, device=self.shape.device)
        first = self.noisy[:, :, :1]
        output = self.model(noisy, first, timestep, self.text, self.shape.fps, self.context())
        output.square().mean().backward()
        if self.optimizer is not None:
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)


def _whole(window: AudioWindows, count: int) -> AudioWindows:
    """A gathered window as a dense mask (F, T) over all features."""
    frames = len(window.visible)
    visible = torch.zeros(frames, count, dtype=torch.bool)
    for frame in range(frames):
        visible[frame, window.index[frame][window.visible[frame]]] = True
    index = torch.arange(count).expand(frames, -1)
    return AudioWindows(index, visible, torch.zeros(frames, count))


def seconds_of(action: Callable[[], Any], device: str) -> float:
    """Wall-clock seconds of `action`, the device's work included."""
    if device == "cuda":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    action()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def time_training(shape: Shape, rounds: int) -> dict[str, Any]:
    """Seconds of a step of every variant, round by round, and ratios to the frozen backbone within a round."""
    subjects = {variant: Subject(shape, variant) for variant in VARIANTS}
    for subject in subjects.values():
        subject.step()
        subject.step()
    times: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for turn in range(rounds):
        order = VARIANTS if turn % 2 == 0 else VARIANTS[::-1]
        for variant in order:
            times[variant].append(seconds_of(subjects[variant].step, shape.device))
    ratios = {v: [t / f for t, f in zip(times[v], times["frozen"], strict=True)] for v in VARIANTS}
    return {v: {"seconds": _spread(times[v]), "ratio": _spread(ratios[v])} for v in VARIANTS}


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def memory_of(shape: Shape, variant: str) -> float:
    """GiB at the peak of two steps above the memory with the model loaded; on a CPU in a process of its own."""
    if shape.device == "cuda":
        subject = Subject(shape, variant)
        subject.step()
        torch.cuda.reset_peak_memory_stats()
        subject.step()
        peak = torch.cuda.max_memory_allocated() / 2**30
        del subject
        gc.collect()
        torch.cuda.empty_cache()
        return peak
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return float(pool.apply(_resident_growth, (shape, variant)))


def _resident_growth(shape: Shape, variant: str) -> float:
    subject = Subject(shape, variant)
    # Building the model may have held more than a step does: the kernel's peak starts anew here.
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak_resident_gib()
    subject.step()
    subject.step()
    return _peak_resident_gib() - before


def _peak_resident_gib() -> float:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 2**20


def time_sampling(shape: Shape, rounds: int, steps: int = 4) -> dict[str, Any]:
    """Seconds of sampling with audio keys and values computed once, and at every step."""
    subject = Subject(shape, "adapters")
    null = TextEmbedding(subject.text.embeddings[:1], subject.text.mask[:1])

    def sample(cache: bool) -> None:
        sample_latents(
            *(subject.model, subject.backbone, subject.noisy[:, :, :1], subject.text, null, subject.context()),
            num_latent_frames=shape.latent[0],
            fps=shape.fps,
            seeds=range(shape.batch),
            num_inference_steps=steps,
            guidance=Guidance(),
            cache_audio=cache,
        )

    sample(True)
    times: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(rounds):
        for cache in times:
            times[cache].append(seconds_of(lambda cache=cache: sample(cache), shape.device))  # type: ignore[misc]
    ratios = [each / once for once, each in zip(times[True], times[False], strict=True)]
    return {"cached": _spread(times[True]), "each_step": _spread(times[False]), "each_over_cached": _spread(ratios)}


def report(results: list[dict[str, Any]]) -> str:
    """Markdown: time, ratio and memory by shape and variant; then sampling."""
    lines = ["| shape | variant | step, s | over frozen | peak growth, GiB |", "| --- | --- | --- | --- | --- |"]
    for result in results:
        for variant in VARIANTS:
            row = result["training"][variant]
            lines.append(
                f"| {result['shape']} | {variant} | {_cell(row['seconds'])} | {_cell(row['ratio'])} | "
                f"{result['memory'][variant]:.2f} |"
            )
    lines += ["", "| shape | sampling, cached, s | each step, s | ratio |", "| --- | --- | --- | --- |"]
    for result in results:
        cells = [_cell(result["sampling"][name]) for name in ("cached", "each_step", "each_over_cached")]
        lines.append(f"| {result['shape']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(entry: dict[str, float]) -> str:
    return f"{entry['median']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1, help="of torch; at most as many as cores are idle")
    parser.add_argument("--gpu", action="store_true", help="full-size transformers in bfloat16 on a CUDA device")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = []
    for shape in shapes(arguments.gpu):
        memory = {variant: memory_of(shape, variant) for variant in VARIANTS}
        training = time_training(shape, arguments.rounds)
        gc.collect()
        sampling = time_sampling(shape, arguments.rounds)
        results.append({"shape": shape.name, "training": training, "memory": memory, "sampling": sampling})
        print(report(results[-1:]), flush=True)
    if arguments.json:
        environment = describe_environment() | {"threads": arguments.threads}
        arguments.json.write_text(json.dumps({"environment": environment, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
