"""What every kind of checkpoint must do once loaded from its folder: train adapters, keep them, animate."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from soundstage.config.audio import AudioConfig, LogMelConfig
from soundstage.config.tree import AdapterConfig, ModelConfig, TrainConfig, WindowConfig
from soundstage.errors import ConfigError
from soundstage.models.animate import Animator
from soundstage.models.audio.load import feature_grids
from soundstage.models.backbones.base import Backbone
from soundstage.models.backbones.load import load_backbone, reference_pretrained
from soundstage.models.bundle import load_adapter, new_adapters, save_adapter
from soundstage.models.conditioned import AudioAdapters, AudioConditionedTransformer
from soundstage.training.feed import Batch
from soundstage.training.objective import DenoisingObjective

from ..makers import make_heard, scene_of
from .tiny import MEMBERS, Saved, Shelf, video

AUDIO = AudioConfig(encoders={"mel": LogMelConfig(num_mel_bins=16)})
MARGIN_SEC = 0.3


@pytest.fixture(params=MEMBERS)
def saved(request: pytest.FixtureRequest, shelf: Shelf) -> Saved:
    return shelf.get(request.param)


def _model(saved: Saved) -> ModelConfig:
    adapter = AdapterConfig(inner_dim=4, heads=2, audio_dim=8, low_rank=2, max_share=1.0)
    return ModelConfig(backbone=saved.config, audio=AUDIO, adapter=adapter)


def _window(saved: Saved) -> WindowConfig:
    member = saved.member
    sizes = {"num_frames": member.num_frames, "size": member.height, "width": member.width}
    return WindowConfig(fps=member.fps, audio_margin_sec=MARGIN_SEC, **sizes)


def _adapters(made: Backbone, config: ModelConfig) -> AudioAdapters:
    torch.manual_seed(3)
    return new_adapters(made, feature_grids(config.audio), config)


def _batch(made: Backbone, saved: Saved) -> Batch:
    """Two clips, one of them without its sound."""
    latents = made.codec.encode(video(saved.member, batch=2))
    generator = torch.Generator().manual_seed(4)
    return Batch(
        latents,
        scene_of(made, saved.member).sounds(feature_grids(AUDIO)),
        made.text.encode(["a drum", ""]),
        torch.randn(latents.shape, generator=generator),
        torch.tensor([0.9, 0.3]),
        torch.tensor([1.0, 0.0]),
        ("one", "two"),
    )


def test_a_training_step_reaches_every_new_parameter_and_no_old_one(saved: Saved) -> None:
    made, config = saved.load(), _model(saved)
    adapters = _adapters(made, config)
    make_heard(adapters)  # zero output projections would hide what lies before them
    model = AudioConditionedTransformer(made, adapters)
    loss = DenoisingObjective(made, model, config, _window(saved), TrainConfig(motion_weight=1.0))(_batch(made, saved))
    assert torch.isfinite(loss)
    loss.backward()
    still = [name for name, p in adapters.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert still == []
    assert all(parameter.grad is None for parameter in made.transformer.parameters())


def test_training_lowers_the_loss(saved: Saved) -> None:
    made, config = saved.load(), _model(saved)
    adapters, batch = _adapters(made, config), _batch(made, saved)
    objective = DenoisingObjective(
        made, AudioConditionedTransformer(made, adapters), config, _window(saved), TrainConfig()
    )
    optimizer = torch.optim.Adam(adapters.parameters(), lr=0.01)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = objective(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.995 * losses[0]


def test_untrained_adapters_change_no_bit(saved: Saved) -> None:
    bare, made, config = saved.load(), saved.load(), _model(saved)
    adapters, scene = _adapters(made, config), scene_of(made, saved.member)
    model = AudioConditionedTransformer(made, adapters)
    with torch.no_grad():
        wanted = AudioConditionedTransformer(bare, None)(*scene.asked())
        assert torch.equal(model(*scene.asked(), scene.heard(adapters)), wanted)
        make_heard(adapters)
        assert (model(*scene.asked(), scene.heard(adapters)) - wanted).abs().max() > 1e-3


def test_adapters_come_back_onto_their_own_backbone_only(saved: Saved, shelf: Shelf, tmp_path: Path) -> None:
    made, config = saved.load(), _model(saved)
    adapters, scene = _adapters(made, config), scene_of(made, saved.member)
    make_heard(adapters)
    save_adapter(tmp_path, adapters, made, config, _window(saved), "pretrain")
    again = saved.load()
    loaded, _, window = load_adapter(tmp_path, again)
    assert window == _window(saved)
    with torch.no_grad():
        wanted = AudioConditionedTransformer(made, adapters)(*scene.asked(), scene.heard(adapters))
        found = AudioConditionedTransformer(again, loaded)(*scene.asked(), scene.heard(loaded))
    assert torch.equal(found, wanted)
    other = shelf.get("ltx-0.9.5" if saved.member.family == "wan" else "wan2.1-t2v").load()
    message = f"was trained on the {made.family} backbone {made.fingerprint[:16]}, this one is {other.fingerprint[:16]}"
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_adapter(tmp_path, other)


def test_a_picture_and_a_sound_become_a_video(saved: Saved, tmp_path: Path) -> None:
    made = reference_pretrained(saved.config, tmp_path / "backbone")
    assert load_backbone(tmp_path / "backbone").fingerprint == made.fingerprint
    adapters = _adapters(made, _model(saved))
    make_heard(adapters)
    save_adapter(tmp_path / "adapter", adapters, made, _model(saved), _window(saved), "finetune")
    animator = Animator.load(tmp_path / "backbone", tmp_path / "adapter")
    image = np.random.default_rng(0).integers(0, 255, (50, 40, 3), dtype=np.uint8)

    def animate(at_sec: float) -> np.ndarray:
        sound = np.zeros(44100, np.float32)
        sound[round(at_sec * 44100) :][:500] = 0.8
        return animator.animate(image, sound, 44100, "a drum", num_inference_steps=2, text_guidance_scale=3.0)

    made_video, member = animate(0.1), saved.member
    assert made_video.shape == (member.num_frames, member.height, member.width, 3)
    assert not np.array_equal(made_video, animate(0.3))
