"""The loss against its formula, written out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import diffusers
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from soundstage.config.tree import TrainConfig
from soundstage.models.adapter import AudioContext
from soundstage.models.audio.base import FeatureGrid
from soundstage.models.backbones.base import Backbone, TextEmbedding
from soundstage.models.backbones.load import new_backbone
from soundstage.models.conditioned import AudioAdapters, AudioConditionedTransformer
from soundstage.models.windows import audio_windows, frame_spans
from soundstage.training.feed import Batch
from soundstage.training.objective import DenoisingObjective

from ..models.makers import make_heard
from .makers import bare_backbone, train_slice

Prediction = Literal["velocity", "clean_residual"]
FPS, MARGIN_SEC, HOP_SEC = 6, 0.3, 0.01
GRIDS = {"mel": FeatureGrid(dim=17, hop_sec=HOP_SEC)}


def over(backbone: Backbone, **train: float) -> tuple[AudioConditionedTransformer, DenoisingObjective]:
    """A model with adapters that are heard, and its objective."""
    config = train_slice("model.adapter.max_share=1.0")
    adapters = AudioAdapters(backbone, GRIDS, config.model.adapter)
    make_heard(adapters)
    model = AudioConditionedTransformer(backbone, adapters)
    return model, DenoisingObjective(backbone, model, config.model, config.window, TrainConfig.model_validate(train))


def setting(prediction: Prediction, **train: float) -> tuple[Backbone, AudioConditionedTransformer, DenoisingObjective]:
    backbone = new_backbone(train_slice(f"model.backbone.prediction={prediction}").model.backbone, 0)
    return backbone, *over(backbone, **train)


def batch(channels: int = 3, frames: int = 6, side: int = 16) -> Batch:
    generator = torch.Generator().manual_seed(0)
    shape = (2, channels, frames, side, side)
    latents = torch.rand(shape, generator=generator) * 2 - 1
    rests = max(2, frames // 2)
    latents[0, :, rests:] = latents[0, :, rests - 1 : rests]
    # Sound of the window and its margins; three latents of LTX last 17 frames.
    length = 161 if channels == 3 else 400
    return Batch(
        latents,
        {"mel": torch.randn(2, length, 17, generator=generator)},
        TextEmbedding(torch.randn(2, 48, 16, generator=generator), torch.ones(2, 48, dtype=torch.bool)),
        torch.randn(shape, generator=generator),
        torch.tensor([0.25, 0.8]),
        torch.tensor([1.0, 0.0]),
        ("a", "b"),
    )


class Overheard:
    """What a backbone's transformer was called with, and what it put out."""

    def __init__(self, backbone: Backbone) -> None:
        self.given: dict[str, Any] = {}
        self.output = torch.zeros(0)
        backbone.transformer.register_forward_hook(self._hear, with_kwargs=True)

    def _hear(self, _module: object, _args: object, given: dict[str, Any], output: Any) -> None:
        self.given, self.output = given, output[0]


def context(model: AudioConditionedTransformer, made: Batch, spans: torch.Tensor) -> AudioContext:
    """What adapters shall hear: 0.25 s to either side of `spans`, a feature standing for its hop."""
    assert model.adapters is not None
    times = torch.arange(made.audio["mel"].shape[1], dtype=torch.float32) * HOP_SEC - MARGIN_SEC
    return model.adapters.context(made.audio, {"mel": audio_windows(spans, times, 0.25, HOP_SEC)}, made.audio_keep)


def weights_by_hand(clean: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
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
    backbone, model, objective = setting(prediction, motion_weight=motion_weight)
    made, heard = batch(), Overheard(backbone)
    clean, noise = made.latents, made.noise
    noisy = torch.stack([(1 - s) * c + s * n for s, c, n in zip(made.sigma, clean, noise, strict=True)])
    given = torch.cat([noisy, clean[:, :, :1].repeat(1, 1, 6, 1, 1)], dim=1)
    with torch.no_grad():
        found = objective(made)
        shown, output = heard.given, heard.output
        sound = context(model, made, frame_spans(6, 6.0))
        again = model(noisy, clean[:, :, :1], torch.tensor([250.0, 800.0]), made.text, FPS, sound)
    torch.testing.assert_close(shown["hidden_states"], given)
    assert shown["timestep"].tolist() == pytest.approx([250.0, 800.0])
    assert torch.equal(shown["encoder_hidden_states"], made.text.embeddings)
    torch.testing.assert_close(output, again)
    target = noise - clean if prediction == "velocity" else clean - clean[:, :, :1]
    error = ((output - target) ** 2).double().numpy()
    assert float(found) == pytest.approx(
        (error * weights_by_hand(clean.double().numpy(), motion_weight)).mean(), rel=1e-5
    )


def spans_by_hand(frames: int, stride: int) -> torch.Tensor:
    """Latent 0 is frame 0, latent i the `stride` frames that end with frame `stride * i`; (F, 2) in seconds."""
    rows = [(-0.5, 0.5)] + [(stride * (i - 1) + 0.5, stride * i + 0.5) for i in range(1, frames)]
    return torch.tensor(rows) / FPS


def noise_and_target(family: str, made: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy latents and what is to be predicted of them: flow matching by hand, v-prediction by diffusers."""
    clean, noise, sigma = made.latents, made.noise, made.sigma.view(-1, 1, 1, 1, 1)
    if family != "cogvideox":
        return (1 - sigma) * clean + sigma * noise, noise - clean
    scheduler = diffusers.CogVideoXDDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    timestep = torch.tensor([250, 800])
    return scheduler.add_noise(clean, noise, timestep), scheduler.get_velocity(clean, noise, timestep)


def as_latents(family: str, tokens: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """What a transformer takes or puts out, laid out as latents (B, C, F, h, w)."""
    if family == "cogvideox":
        return tokens.transpose(1, 2)
    if family == "ltx":
        batch, channels, frames, height, width = like.shape
        return tokens.reshape(batch, frames, height, width, channels).permute(0, 4, 1, 2, 3)
    return tokens


@pytest.mark.parametrize("motion_weight", [0.0, 2.5])
@pytest.mark.parametrize("family", ["wan", "ltx", "cogvideox"])
def test_a_first_latent_that_is_given_clean_is_not_learned(family: str, motion_weight: float) -> None:
    backbone = bare_backbone(family)
    model, objective = over(backbone, motion_weight=motion_weight)
    made, heard = batch(channels=4, frames=3, side=8), Overheard(backbone)
    noisy, target = noise_and_target(family, made)
    with torch.no_grad():
        found = objective(made)
        shown, output = heard.given, as_latents(family, heard.output, made.latents)
        stride = backbone.codec_shape.temporal_stride
        sound = context(model, made, spans_by_hand(3, stride))
        again = model(noisy, made.latents[:, :, :1], torch.tensor([250.0, 800.0]), made.text, FPS, sound)
    seen = as_latents(family, shown["hidden_states"], made.latents)
    assert torch.equal(seen[:, :, 0], made.latents[:, :, 0])
    torch.testing.assert_close(seen[:, :, 1:], noisy[:, :, 1:])
    torch.testing.assert_close(output, again)
    error = ((output - target) ** 2).double().numpy() * weights_by_hand(made.latents.double().numpy(), motion_weight)
    # The mean over elements of latents 1 and 2 alone, summed here in float64, there in float32.
    assert float(found) == pytest.approx(error[:, :, 1:].mean(), rel=1e-5)
    assert error[:, :, 1:].mean() != pytest.approx(error.mean(), rel=1e-3)


@pytest.mark.parametrize(("family", "tokens"), [("wan", 4 * 4), ("ltx", 8 * 8)])
def test_tokens_of_a_clean_latent_are_told_timestep_zero(family: str, tokens: int) -> None:
    backbone = bare_backbone(family)
    heard = Overheard(backbone)
    with torch.no_grad():
        over(backbone)[1](batch(channels=4, frames=3, side=8))
    told = [[0.0] * tokens + [level] * 2 * tokens for level in (250.0, 800.0)]
    np.testing.assert_allclose(heard.given["timestep"].numpy(), told, rtol=1e-6)


def test_noise_on_the_clean_latent_cannot_matter_and_its_picture_does() -> None:
    _, objective = over(bare_backbone("wan"))
    made, other = batch(channels=4, frames=3, side=8), batch(channels=4, frames=3, side=8)
    other.noise[:, :, 0] += 1.0
    with torch.no_grad():
        assert objective(made) == objective(other)
        other.latents[:, :, 0] += 1.0
        assert objective(made) != objective(other)


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

        def forward(self, noisy: torch.Tensor, first: torch.Tensor, *_: object) -> torch.Tensor:
            return batch().latents - first.expand_as(noisy)

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
    second.audio["mel"][1] += 1.0
    with torch.no_grad():
        assert objective(first) == objective(second)
        second.audio["mel"][0] += 1.0
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


def test_a_batch_is_heard_by_the_window_of_its_own_bucket() -> None:
    """One objective over batches of two windows in turn gives what one for each gives."""
    backbone, model, objective = setting("velocity")
    config = train_slice()
    slow = config.window.model_copy(update={"fps": 3, "audio_margin_sec": 0.1})
    plain, other = batch(), replace(batch(frames=4), window=slow)
    alone = DenoisingObjective(backbone, model, config.model, slow, TrainConfig())
    with torch.no_grad():
        found = [float(objective(made)) for made in (plain, other, plain)]
        assert found == [float(objective(plain)), float(alone(other)), found[0]]
        assert found[1] != float(objective(replace(other, window=None)))
