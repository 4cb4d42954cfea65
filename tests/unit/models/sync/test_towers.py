"""Towers keep time: a vector depends on what is near its time, comes once a step, and all parameters learn."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from soundstage.config.tree import ScorerConfig
from soundstage.models.sync.towers import VIDEO_TOWERS, AstAudio, ConvolutionalAudio, TransformerAudio

BANDS, DIM = 16, 8


def config(**changes: object) -> ScorerConfig:
    return ScorerConfig(width=4, embedding_dim=DIM, frame_size=16, num_mel_bins=BANDS, **changes)  # type: ignore[arg-type]


def audio_tower(family: str) -> nn.Module:
    torch.manual_seed(0)
    if family == "ast":
        return AstAudio(config(), hidden_size=24, layers=1, segment=48).eval()
    return {"convolutional": ConvolutionalAudio, "transformer": TransformerAudio}[family](config()).eval()


def video_tower(family: str) -> nn.Module:
    torch.manual_seed(0)
    return VIDEO_TOWERS[family](config()).eval()


def far_share(before: torch.Tensor, after: torch.Tensor, near: range) -> float:
    """Largest change of a vector outside of `near`, against the largest at all."""
    change = (before - after).norm(dim=1)[0]
    far = [float(change[index]) for index in range(len(change)) if index not in near]
    return max(far) / float(change.max())


def test_a_changed_frame_changes_the_vectors_of_its_two_pairs_and_those_in_reach() -> None:
    frames = torch.randn(1, 40, 16, 16, generator=torch.Generator().manual_seed(1))
    other = frames.clone()
    other[:, 20] += torch.randn(16, 16, generator=torch.Generator().manual_seed(2))
    tower = video_tower("convolutional")
    with torch.no_grad():
        before, after = tower(frames), tower(other)
    assert before.shape == (1, DIM, 39)
    assert int((before - after).norm(dim=1)[0].argmax()) in (19, 20)
    # Kernels over time reach 2 + 8 pairs; beyond, only the norm over the clip moves a little.
    assert far_share(before, after, range(19 - 10, 20 + 11)) < 0.1


@pytest.fixture(scope="module")
def r2plus1d() -> nn.Module:
    return video_tower("r2plus1d")


def test_r2plus1d_answers_most_where_the_frame_is(r2plus1d: nn.Module) -> None:
    frames = torch.randn(1, 10, 8, 8, generator=torch.Generator().manual_seed(1))
    other = frames.clone()
    other[:, 5] += 4 * torch.randn(8, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        before, after = r2plus1d(frames), r2plus1d(other)
    assert before.shape == (1, DIM, 9)
    assert int((before - after).norm(dim=1)[0].argmax()) in (4, 5)


def test_the_recurrent_tower_answers_most_where_the_frame_is() -> None:
    frames = torch.randn(1, 12, 16, 16, generator=torch.Generator().manual_seed(1))
    other = frames.clone()
    other[:, 6] += 2 * torch.randn(16, 16, generator=torch.Generator().manual_seed(2))
    tower = video_tower("recurrent")
    with torch.no_grad():
        before, after = tower(frames), tower(other)
    assert before.shape == (1, DIM, 11)
    order = (before - after).norm(dim=1)[0].argsort(descending=True).tolist()
    assert set(order[:2]) == {5, 6}


def test_r2plus1d_keeps_every_step_of_time(r2plus1d: nn.Module) -> None:
    strides = [m.stride[0] for m in r2plus1d.modules() if isinstance(m, nn.Conv3d)]
    assert len(strides) > 30
    assert set(strides) == {1}


# Mel frames in reach: kernels alone; two layers of attention over 16 tokens of two mel frames each, and kernels.
@pytest.mark.parametrize(("family", "spread", "leak"), [("convolutional", 14, 0.05), ("transformer", 74, 1e-5)])
def test_a_loud_mel_frame_changes_vectors_near_it(family: str, spread: int, leak: float) -> None:
    mel = torch.randn(1, BANDS, 241, generator=torch.Generator().manual_seed(1))
    place = 120
    loud = mel.clone()
    loud[..., place] += 3.0
    tower = audio_tower(family)
    with torch.no_grad():
        before, after = tower(mel), tower(loud)
    stride = int(tower.stride)  # type: ignore[arg-type]
    assert before.shape == (1, DIM, -(-241 // stride))
    assert abs(int((before - after).norm(dim=1)[0].argmax()) * stride - place) <= 2 * stride
    assert far_share(before, after, range((place - spread) // stride, (place + spread) // stride + 1)) < leak


@pytest.mark.parametrize("length", [7, 48, 97, 150])
def test_ast_gives_one_vector_each_four_mel_frames_at_any_length(length: int) -> None:
    with torch.no_grad():
        found = audio_tower("ast")(torch.randn(2, BANDS, length))
    assert found.shape == (2, DIM, -(-length // 4))
    assert torch.isfinite(found).all()


def test_ast_patches_are_centred_on_every_fourth_mel_frame_across_segments() -> None:
    """What each output's own patch sees: the gradient of patch embeddings, put in the order of the outputs."""
    tower = audio_tower("ast")
    assert isinstance(tower, AstAudio)
    # Without attention and the layers' work an output is a function of its own patch and place alone.
    for layer in tower.model.modules():
        if isinstance(layer, nn.Linear) and layer is not tower.out:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    mel = torch.randn(1, BANDS, 130, generator=torch.Generator().manual_seed(1), requires_grad=True)
    vectors = tower(mel)
    assert vectors.shape[-1] == 33
    for index in (0, 3, 11, 12, 13, 24, 32):
        (gradient,) = torch.autograd.grad(vectors[0, :, index].square().sum(), mel, retain_graph=True)
        seen = torch.nonzero(gradient.abs().sum((0, 1)) > 0).flatten()
        assert seen.min() == max(0, 4 * index - 8)
        assert seen.max() == min(129, 4 * index + 7)


def test_ast_hears_the_same_in_every_segment() -> None:
    tower = audio_tower("ast")
    mel = torch.randn(1, BANDS, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        vectors = tower(torch.cat([mel, mel, mel], dim=-1))
    torch.testing.assert_close(vectors[..., 12:24], vectors[..., 36:48])


@pytest.mark.parametrize("family", list(VIDEO_TOWERS))
def test_all_parameters_of_a_video_tower_learn(family: str, r2plus1d: nn.Module) -> None:
    tower = r2plus1d if family == "r2plus1d" else video_tower(family)
    tower(torch.randn(2, 6, 8, 8)).square().sum().backward()
    assert idle(tower) == set()


@pytest.mark.parametrize("family", ["convolutional", "transformer", "ast"])
def test_all_parameters_of_an_audio_tower_learn(family: str) -> None:
    tower = audio_tower(family)
    tower(torch.randn(2, BANDS, 60)).square().sum().backward()
    assert idle(tower) == set()


def idle(module: nn.Module) -> set[str]:
    return {name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().any()}
