"""Published checkpoints at full size, on the `meta` device: counts, shapes and schedules without their weights."""

from __future__ import annotations

import re

import pytest
import torch

from soundstage.errors import ConfigError
from soundstage.models.backbones.base import Backbone, TextEmbedding
from soundstage.models.backbones.load import FAMILIES, release_on_meta
from soundstage.models.conditioned import AudioConditionedTransformer, parameter_count
from soundstage.models.noising import DiffusionVelocity, FlowVelocity

# Parameters (the sizes of the published weights), blocks, width, latent window (F, h, w), tokens of text.
SIZES = {
    "wan2.1-t2v-1.3b": (1_418_996_800, 30, 1536, (21, 60, 104), 512),
    "wan2.1-t2v-14b": (14_288_491_584, 40, 5120, (21, 60, 104), 512),
    "wan2.2-ti2v-5b": (4_999_787_712, 30, 3072, (31, 44, 80), 512),
    "ltx-video-2b": (1_923_385_472, 28, 2048, (21, 16, 22), 256),
    "cogvideox-2b": (1_693_783_872, 30, 1920, (13, 60, 90), 226),
    "cogvideox-5b": (5_570_283_072, 42, 3072, (13, 60, 90), 226),
    "cogvideox-5b-i2v": (5_570_479_680, 42, 3072, (13, 60, 90), 226),
}
NAMES = list(SIZES)


@pytest.fixture(scope="module", params=NAMES)
def release(request: pytest.FixtureRequest) -> tuple[str, Backbone]:
    return request.param, release_on_meta(request.param)


def test_every_release_is_tested() -> None:
    assert [name for family in FAMILIES.values() for name in family.releases] == NAMES


def test_counts_and_widths(release: tuple[str, Backbone]) -> None:
    name, made = release
    count, blocks, width, _, _ = SIZES[name]
    assert parameter_count(made.transformer) == count
    assert (len(made.blocks), made.hidden_dim) == (blocks, width)
    assert {parameter.device.type for parameter in made.transformer.parameters()} == {"meta"}
    for block in made.blocks:
        maps = made.attention_projections(block)
        assert {key: (m.in_features, m.out_features) for key, m in maps.items()} == dict.fromkeys(
            ("q", "k", "v", "out"), (width, width)
        )


def test_the_native_window_passes_through(release: tuple[str, Backbone]) -> None:
    name, made = release
    _, _, width, (frames, height, columns), tokens = SIZES[name]
    known = made.releases[name]
    assert made.check_window(known.native_frames, *known.native_size) == frames
    stride = made.codec_shape.spatial_stride
    assert (known.native_size[0] // stride, known.native_size[1] // stride) == (height, columns)
    seen: list[torch.Size] = []

    def note(_module: torch.nn.Module, _args: object, output: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        seen.append(output[0].shape if isinstance(output, tuple) else output.shape)

    handles = [block.register_forward_hook(note) for block in made.blocks]
    channels = made.codec_shape.channels
    with torch.device("meta"), torch.no_grad():
        text = TextEmbedding(torch.zeros(1, tokens, 4096), torch.ones(1, tokens, dtype=torch.bool))
        noisy, first = torch.zeros(1, channels, frames, height, columns), torch.zeros(1, channels, 1, height, columns)
        model = AudioConditionedTransformer(made, None)
        output = model(noisy, first, torch.full((1,), 500), text, float(known.native_fps))
    for handle in handles:
        handle.remove()
    assert output.shape == noisy.shape
    per_frame = (height // made.spatial_patch) * (columns // made.spatial_patch)
    assert set(seen) == {torch.Size((1, frames * per_frame, width))}, "adapters rely on this layout"
    assert len(seen) == len(made.blocks)
    assert f"{tokens} tokens" in known.text


def test_schedules_start_at_pure_noise(release: tuple[str, Backbone]) -> None:
    name, made = release
    scheduler = made.scheduler()
    _, _, _, (frames, height, width), _ = SIZES[name]
    made.set_timesteps(scheduler, 10, frames * height * width // made.spatial_patch**2)
    assert len(scheduler.timesteps) == 10
    first = int(scheduler.timesteps[0])
    assert first >= 998
    expected = DiffusionVelocity if made.family == "cogvideox" else FlowVelocity
    assert isinstance(made.noising, expected)
    clean, noise = torch.ones(1, 1, 2, 1, 1), torch.zeros(1, 1, 2, 1, 1)
    assert made.noising.noisy(clean, noise, torch.tensor([1.0])).abs().max() < 1e-6, "nothing of the clip is left"


@pytest.mark.parametrize(("name", "shift"), [("wan2.1-t2v-14b", 3.0), ("wan2.2-ti2v-5b", 5.0)])
def test_wans_noise_levels_are_shifted(name: str, shift: float) -> None:
    scheduler = release_on_meta(name).scheduler()
    scheduler.set_timesteps(4)
    # sigma' = s sigma / (1 + (s - 1) sigma) of levels evenly spaced from 1 to 1/1000, four of five.
    even = torch.linspace(1, 1 / 1000, 5, dtype=torch.float64)[:4]
    wanted = shift * even / (1 + (shift - 1) * even)
    torch.testing.assert_close(scheduler.sigmas[:4].double(), wanted, atol=2e-3, rtol=0)


def test_how_each_is_given_its_first_frame() -> None:
    found = {}
    for name in NAMES:
        made = release_on_meta(name)
        found[name] = (made.first_frame, made.first_frame_native)
    assert found == {
        "wan2.1-t2v-1.3b": ("clean_latent", False),
        "wan2.1-t2v-14b": ("clean_latent", False),
        "wan2.2-ti2v-5b": ("clean_latent", True),
        "ltx-video-2b": ("clean_latent", True),
        "cogvideox-2b": ("clean_latent", False),
        "cogvideox-5b": ("clean_latent", False),
        "cogvideox-5b-i2v": ("channels", True),
    }


def test_nothing_but_shapes_is_there() -> None:
    made = release_on_meta("ltx-video-2b")
    for load in (made.load_codec, made.load_text):
        with pytest.raises(ConfigError, match=re.escape("set model.backbone.pretrained=Lightricks/LTX-Video-0.9.5")):
            load()


def test_an_unknown_release_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="no release 'wan3' is known; known are cogvideox-2b, ") as caught:
        release_on_meta("wan3")
    assert all(name in str(caught.value) for name in NAMES)
