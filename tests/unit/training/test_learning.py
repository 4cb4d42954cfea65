"""What must hold before a long run: gradients reach all that trains and nothing else, and one batch can be learned."""

from __future__ import annotations

import pytest
import torch

from soundstage.config.audio import AudioConfig, LogMelConfig
from soundstage.config.tree import AdapterConfig, ModelConfig, TrainConfig, WindowConfig
from soundstage.models.audio.load import feature_grids
from soundstage.models.backbones.base import Backbone, TextEmbedding
from soundstage.models.bundle import new_adapters
from soundstage.models.conditioned import AudioConditionedTransformer
from soundstage.training.feed import Batch
from soundstage.training.objective import DenoisingObjective

from .makers import bare_backbone

FAMILIES = ("wan", "ltx", "cogvideox")
WINDOW = WindowConfig(num_frames=9, fps=8, size=64, audio_margin_sec=0.25)
CONFIG = ModelConfig(
    audio=AudioConfig(encoders={"mel": LogMelConfig(num_mel_bins=16)}),
    adapter=AdapterConfig(inner_dim=16, heads=2, audio_dim=16, low_rank=4, max_share=1.0),
)


def built(family: str) -> tuple[Backbone, DenoisingObjective]:
    backbone = bare_backbone(family)
    backbone.transformer.requires_grad_(False)
    torch.manual_seed(1)
    adapters = new_adapters(backbone, feature_grids(CONFIG.audio), CONFIG)
    model = AudioConditionedTransformer(backbone, adapters)
    return backbone, DenoisingObjective(backbone, model, CONFIG, WINDOW, TrainConfig())


def one_batch(backbone: Backbone) -> Batch:
    """Two samples of random latents and features at fixed noise and levels."""
    generator = torch.Generator().manual_seed(2)
    frames = backbone.codec_shape.latent_frames(WINDOW.num_frames)
    latents, noise = (torch.randn(2, 4, frames, 8, 8, generator=generator) for _ in range(2))
    grid = feature_grids(CONFIG.audio)["mel"]
    count = round((float(WINDOW.duration_sec) + 2 * WINDOW.audio_margin_sec) / grid.hop_sec) + 1
    audio = {"mel": torch.randn(2, count, grid.dim, generator=generator)}
    text = TextEmbedding(torch.randn(2, 48, 16, generator=generator), torch.ones(2, 48, dtype=torch.bool))
    levels, keep = torch.tensor([0.3, 0.8]), torch.ones(2)
    return Batch(latents, audio, text, noise, levels, keep, ("a", "b"), window=WINDOW)


def trained(objective: DenoisingObjective) -> dict[str, torch.nn.Parameter]:
    return {name: each for name, each in objective.named_parameters() if each.requires_grad}


def stir(objective: DenoisingObjective) -> None:
    """Move weights off the start, where zero output projections keep gradients from what lies before them."""
    with torch.no_grad():
        for each in trained(objective).values():
            each.add_(0.1 * torch.randn(each.shape, generator=torch.Generator().manual_seed(each.numel())))


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_every_trainable_and_nothing_frozen(family: str) -> None:
    backbone, objective = built(family)
    assert {name.split(".")[1] for name in trained(objective)} == {"adapters"}
    stir(objective)
    objective(one_batch(backbone)).backward()
    silent = [name for name, each in trained(objective).items() if each.grad is None or not each.grad.abs().sum() > 0]
    # Nothing is dropped out here, so the embedding of absent audio is the one thing without a part in the loss.
    assert [name for name in silent if "null" not in name] == []
    assert all(each.grad is None for each in backbone.transformer.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointed_activations_change_no_gradient(family: str) -> None:
    backbone, objective = built(family)
    stir(objective)
    found = []
    for checkpointed in (False, True):
        if checkpointed:
            backbone.checkpoint_activations()
        objective.zero_grad()
        objective.train()
        objective(one_batch(backbone)).backward()
        found.append({name: each.grad.clone() for name, each in trained(objective).items() if each.grad is not None})
    kept, again = found
    assert kept.keys() == again.keys()
    for name, gradient in kept.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointing_keeps_fewer_activations(family: str) -> None:
    sizes = []
    for checkpointed in (False, True):
        backbone, objective = built(family)
        if checkpointed:
            backbone.checkpoint_activations()
        objective.train()
        kept: dict[int, int] = {}

        def pack(tensor: torch.Tensor, into: dict[int, int] = kept) -> torch.Tensor:
            into[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            objective(one_batch(backbone))
        sizes.append(sum(kept.values()))
    assert sizes[1] < sizes[0] / 2


@pytest.mark.parametrize("family", FAMILIES)
def test_one_batch_is_learned(family: str) -> None:
    backbone, objective = built(family)
    batch = one_batch(backbone)
    optimizer = torch.optim.AdamW(trained(objective).values(), lr=2e-2, weight_decay=0.0)
    losses = []
    for _ in range(120):
        optimizer.zero_grad()
        loss = objective(batch)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0], (losses[0], losses[-1])
