"""The loss against its formula, written out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from soundstage.config.tree import TrainConfig
from soundstage.models.audio.mel import LogMelOnset
from soundstage.models.backbones.base import Backbone, Prediction
from soundstage.models.backbones.load import new_backbone
from soundstage.models.conditioned import AudioAdapters, AudioConditionedTransformer
from soundstage.models.windows import audio_windows, frame_spans
from soundstage.training.feed import Batch
from soundstage.training.objective import DenoisingObjective

from ..models.makers import make_heard
from .makers import train_slice


def setting(prediction: Prediction, **train: float) -> tuple[Backbone, AudioConditionedTransformer, DenoisingObjective]:
    config = train_slice(f"model.backbone.prediction={prediction}", "model.adapter.max_share=1.0")
    backbone = new_backbone(config.model.backbone, 0)
    adapters = AudioAdapters(
        backbone.hidden_dim, len(backbone.blocks), LogMelOnset(config.model.audio).dim, config.model.adapter
    )
    make_heard(adapters)
    model = AudioConditionedTransformer(backbone.transformer, backbone.blocks, adapters)
    objective = DenoisingObjective(backbone, model, config.model, config.window, TrainConfig.model_validate(train))
    return backbone, model, objective


def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    shape = (2, 3, 6, 16, 16)
    latents = torch.rand(shape, generator=generator) * 2 - 1
    latents[0, :, 3:] = latents[0, :, 2:3]
    return Batch(
        latents,
        torch.randn(2, 161, 17, generator=generator),
        torch.randn(2, 48, 16, generator=generator),
        torch.randn(shape, generator=generator),
        torch.tensor([0.25, 0.8]),
        torch.tensor([1.0, 0.0]),
        ("a", "b"),
    )


def weights_by_hand(clean: np.ndarray, weight: float) -> np.ndarray:
    """1 + w * |change| / mean |change|, over 1 + w; looped."""
    out = np.empty_like(clean)
    for b in range(len(clean)):
        change = np.zeros_like(clean[b])
        for frame in range(1, clean.shape[2]):
            change[:, frame] = np.abs(clean[b][:, frame] - clean[b][:, frame - 1])
        out[b] = (1 + weight * change / change.mean()) / (1 + weight)
    return out


@pytest.mark.parametrize("motion_weight", [0.0, 2.5])
@pytest.mark.parametrize("prediction", ["velocity", "clean_residual"])
def test_the_loss_is_the_formula(prediction: Prediction, motion_weight: float) -> None:
    _, model, objective = setting(prediction, motion_weight=motion_weight)
    made = batch()
    clean, noise = made.latents, made.noise
    noisy = torch.stack([(1 - s) * c + s * n for s, c, n in zip(made.sigma, clean, noise, strict=True)])
    given = torch.cat([noisy, clean[:, :, :1].repeat(1, 1, 6, 1, 1)], dim=1)
    times = torch.arange(161, dtype=torch.float32) * 0.01 - 0.3
    windows = audio_windows(frame_spans(6, 6.0), times, 0.25)
    assert model.adapters is not None
    context = model.adapters.context(made.audio, windows, made.audio_keep)
    with torch.no_grad():
        output = model(given, torch.tensor([250.0, 800.0]), made.text, context)
        found = objective(made)
    target = noise - clean if prediction == "velocity" else clean - clean[:, :, :1]
    error = ((output - target) ** 2).double().numpy()
    assert float(found) == pytest.approx(
        (error * weights_by_hand(clean.double().numpy(), motion_weight)).mean(), rel=1e-5
    )


def test_motion_weights_average_to_one_and_favour_motion() -> None:
    _, _, objective = setting("velocity", motion_weight=3.0)
    clean = batch().latents
    weights = objective._motion_weights(clean)
    torch.testing.assert_close(weights.mean(dim=(1, 2, 3, 4)), torch.ones(2), atol=1e-5, rtol=0)
    assert weights[0, :, 3:].max() == pytest.approx(0.25)  # these frames of the first clip stand still
    assert weights[0, :, 1:3].mean() > 1.5
    still = torch.zeros(1, 3, 6, 4, 4)
    assert torch.isfinite(objective._motion_weights(still)).all()


def test_a_perfect_prediction_costs_nothing() -> None:
    backbone, _, _ = setting("clean_residual")

    class Oracle(torch.nn.Module):
        adapters = None

        def forward(self, given: torch.Tensor, *_: object) -> torch.Tensor:
            return batch().latents - given[:, 3:]

    config = train_slice()
    objective = DenoisingObjective(backbone, Oracle(), config.model, config.window, TrainConfig())  # type: ignore[arg-type]
    assert float(objective(batch())) == 0.0


def test_only_adapters_learn() -> None:
    backbone, model, objective = setting("velocity")
    backbone.transformer.requires_grad_(False)
    objective(batch()).backward()
    trained = {name for name, p in objective.named_parameters() if p.grad is not None}
    assert trained == {f"model.adapters.{name}" for name, _ in model.adapters.named_parameters()}  # type: ignore[union-attr]


def test_sound_that_is_dropped_out_cannot_matter() -> None:
    _, _, objective = setting("velocity")
    first, second = batch(), batch()
    second.audio[1] += 1.0
    with torch.no_grad():
        assert objective(first) == objective(second)
        second.audio[0] += 1.0
        assert objective(first) != objective(second)


def test_a_sample_counts_by_its_weight() -> None:
    _, _, objective = setting("velocity")
    made = batch()
    with torch.no_grad():
        plain = objective(made)
        ones = objective(replace(made, weight=torch.ones(2)))
        # The mean over both is half of the sum, so a weight of 2 and of 0 leaves the mean of the one.
        first, second = (objective(replace(made, weight=torch.tensor(w))) for w in ([2.0, 0.0], [0.0, 2.0]))
        mixed = objective(replace(made, weight=torch.tensor([0.5, 1.5])))
    assert torch.equal(plain, ones)
    assert float(mixed) == pytest.approx(0.25 * float(first) + 0.75 * float(second), rel=1e-5)
    assert abs(float(first) - float(second)) > 1e-3
