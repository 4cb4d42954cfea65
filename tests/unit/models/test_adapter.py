"""Windowed attention against a dense, masked, looped reference in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from soundstage.config.tree import AdapterConfig
from soundstage.errors import ConfigError
from soundstage.models.adapter import AudioContext, AudioProjector, WindowedAudioAttention
from soundstage.models.audio.base import FeatureGrid
from soundstage.models.windows import AudioWindows, audio_windows, frame_spans

from .makers import make_heard

Array = NDArray[np.float64]
HOPS = (Fraction(1, 100), Fraction(1, 50), Fraction(2, 25), Fraction(12, 25))
WIDTHS = (Fraction(0), Fraction(1, 25), Fraction(1, 4), Fraction(3, 10), None)


@dataclass(frozen=True)
class Case:
    """A shape. encoders: hop and width of each. window: seconds; None is infinite."""

    frames: int
    spatial: int
    hidden: int
    inner: int
    heads: int
    audio: int
    stride: int
    fps: int
    window: Fraction | None
    encoders: tuple[tuple[Fraction, int], ...]

    def __str__(self) -> str:
        hops = "+".join(f"{float(hop):g}s" for hop, _ in self.encoders)
        return f"f{self.frames}-heads{self.heads}-stride{self.stride}-window{self.window}-{hops}"


MEL = (Fraction(1, 100), 5)
CASES = [
    Case(5, 4, 16, 4, 1, 6, 1, 5, Fraction(0), (MEL,)),
    Case(4, 3, 24, 6, 3, 5, 4, 10, Fraction(0), (MEL,)),
    Case(12, 2, 8, 8, 2, 9, 1, 5, Fraction(1, 4), (MEL,)),
    Case(3, 1, 32, 2, 2, 4, 4, 20, Fraction(3, 10), (MEL,)),
    Case(6, 5, 16, 12, 4, 8, 4, 10, None, (MEL,)),
    Case(1, 9, 16, 4, 2, 8, 4, 10, None, (MEL,)),
]


def random_case(seed: int) -> Case:
    """Any shape: every width, stride and number of encoders comes up, a window lasts at most about three seconds."""
    rng = np.random.default_rng([44, seed])
    frames, stride, heads = int(rng.integers(1, 9)), (1, 4, 8)[seed % 3], int(rng.integers(1, 4))
    hops = rng.choice(len(HOPS), size=int(rng.integers(1, 4)), replace=False)
    return Case(
        frames,
        spatial=int(rng.integers(1, 6)),
        hidden=int(rng.integers(4, 33)),
        inner=heads * int(rng.integers(1, 5)),
        heads=heads,
        audio=int(rng.integers(2, 13)),
        stride=stride,
        fps=int(rng.integers(4, 26)) * max(1, stride // 2),
        window=WIDTHS[seed % 5],
        encoders=tuple((HOPS[hop], int(rng.integers(1, 8))) for hop in hops),
    )


RANDOM = [random_case(seed) for seed in range(30)]


def weights(module: torch.nn.Module) -> dict[str, Array]:
    return {name: tensor.double().numpy() for name, tensor in module.state_dict().items()}


def gelu(x: Array) -> Array:
    return np.asarray(0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))))


def dense_reference(
    projector: dict[str, Array],
    attention: dict[str, Array],
    heads: int,
    hidden: Array,
    audio: dict[str, Array],
    visible: dict[str, NDArray[np.bool_]],
    relative: dict[str, Array],
) -> Array:
    """Every token of frame f attends to all features of all encoders, those outside the window masked by -infinity.

    hidden (F, S, C); by encoder: audio (T, D), visible (F, T), relative (F, T) seconds to the middle of the frame.
    """
    out = np.zeros_like(hidden)
    frequencies = 2 * np.pi * 2.0 ** np.arange(6) / 4.0
    shown = np.concatenate([visible[name] for name in audio], axis=1)
    for f in range(len(hidden)):
        heard = []
        for name, features in audio.items():
            phase = relative[name][f, :, None] * frequencies
            code = np.concatenate([np.sin(phase), np.cos(phase)], 1)
            weight, bias = projector[f"features.{name}.weight"], projector[f"features.{name}.bias"]
            heard.append(features @ weight.T + bias + code @ projector["time.weight"].T)
        mixed = gelu(np.concatenate(heard)) @ attention["to_kv.weight"].T + attention["to_kv.bias"]
        key, value = np.split(mixed, 2, axis=1)
        for s, token in enumerate(hidden[f]):
            normed = (token - token.mean()) / np.sqrt(token.var() + 1e-5)
            query = attention["to_q.weight"] @ normed + attention["to_q.bias"]
            parts = []
            for q, k, v in zip(np.split(query, heads), np.split(key, heads, 1), np.split(value, heads, 1), strict=True):
                logits = np.where(shown[f], k @ q / math.sqrt(len(q)), -np.inf)
                share = np.exp(logits - logits.max())
                parts.append(share / share.sum() @ v)
            out[f, s] = attention["to_out.weight"] @ np.concatenate(parts) + attention["to_out.bias"]
    return out


def stamps(case: Case) -> dict[str, list[Fraction]]:
    """Exact times of each encoder's features: 0.4 s before the video to 0.4 s after, offset by half a hop."""
    end = Fraction(case.stride * (case.frames - 1) + 1, case.fps) + Fraction(2, 5)
    found = {}
    for number, (hop, _) in enumerate(case.encoders):
        start = -Fraction(2, 5) + hop / 2
        found[f"encoder{number}"] = [start + hop * n for n in range(math.ceil((end - start) / hop) + 1)]
    return found


def exact_windows(case: Case) -> tuple[dict[str, NDArray[np.bool_]], dict[str, Array]]:
    """What is visible, and how far from the middle, in fractions."""
    spans = []
    for f in range(case.frames):
        first = case.stride * (f - 1) + 1 if f else 0
        spans.append((Fraction(2 * first - 1, 2 * case.fps), Fraction(2 * case.stride * f + 1, 2 * case.fps)))
    visible, relative = {}, {}
    for (name, exact), (hop, _) in zip(stamps(case).items(), case.encoders, strict=True):
        window = None if case.window is None else case.window + hop / 2
        visible[name] = np.array([[window is None or a - window <= t <= b + window for t in exact] for a, b in spans])
        relative[name] = np.array([[float(t - (a + b) / 2) for t in exact] for a, b in spans])
    return visible, relative


def gathered(case: Case) -> dict[str, AudioWindows]:
    """The windows under test."""
    spans = frame_spans(case.frames, float(case.fps), case.stride)
    width = math.inf if case.window is None else float(case.window)
    return {
        name: audio_windows(spans, torch.tensor([float(t) for t in exact]), width, float(hop))
        for (name, exact), (hop, _) in zip(stamps(case).items(), case.encoders, strict=True)
    }


@pytest.mark.parametrize("case", CASES + RANDOM, ids=str)
def test_attention_equals_the_dense_reference(case: Case) -> None:
    windows = gathered(case)
    grids = {name: FeatureGrid(dim, float(hop)) for name, (hop, dim) in zip(windows, case.encoders, strict=True)}
    config = AdapterConfig(inner_dim=case.inner, heads=case.heads, audio_dim=case.audio)
    projector, attention = AudioProjector(grids, case.audio), WindowedAudioAttention(case.hidden, config)
    make_heard(projector, 1, 0.5)
    make_heard(attention, 2, 0.5)
    generator = torch.Generator().manual_seed(case.frames)
    hidden = torch.randn(2, case.frames * case.spatial, case.hidden, generator=generator)
    times = stamps(case)
    audio = {name: torch.randn(2, len(times[name]), grids[name].dim, generator=generator) for name in windows}

    found = attention(hidden, projector(audio, windows, torch.ones(2))).detach()

    visible, relative = exact_windows(case)
    for index in range(2):
        tokens = hidden[index].double().numpy().reshape(case.frames, case.spatial, case.hidden)
        wanted = dense_reference(
            weights(projector),
            weights(attention),
            case.heads,
            tokens,
            {name: features[index].double().numpy() for name, features in audio.items()},
            visible,
            relative,
        )
        # float32 against float64: a few dozen roundings of 6e-8 on values of order one, and sines of up to 200 rad,
        # which float32 holds to 8e-6.
        np.testing.assert_allclose(found[index].reshape(wanted.shape), wanted, atol=2e-5)


def test_the_random_cases_reach_every_kind() -> None:
    assert {case.stride for case in RANDOM} == {1, 4, 8}
    assert {case.window for case in RANDOM} == set(WIDTHS)
    assert {len(case.encoders) for case in RANDOM} == {1, 2, 3}
    assert {hop for case in RANDOM for hop, _ in case.encoders} == set(HOPS)
    # Both ways through attention: all windows equally wide, and some padded.
    full = {all(bool(window.visible.all()) for window in gathered(case).values()) for case in RANDOM}
    assert full == {True, False}


def test_a_sample_without_audio_gets_exactly_nothing() -> None:
    windows = {"mel": audio_windows(frame_spans(3, 6.0), torch.arange(-10, 60) / 100, 0.1)}
    projector = AudioProjector({"mel": FeatureGrid(5, 0.01)}, 8)
    attention = WindowedAudioAttention(16, AdapterConfig(inner_dim=4, audio_dim=8))
    make_heard(attention)
    hidden = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(0))
    added = attention(hidden, projector({"mel": torch.ones(2, 70, 5)}, windows, torch.tensor([1.0, 0.0])))
    assert added[0].abs().min() > 0
    assert not added[1].any()


def context(width_sec: float = 0.1, batch: int = 2) -> tuple[WindowedAudioAttention, torch.Tensor, AudioContext]:
    """A trained attention, hidden states and what is heard of two encoders, windows of several widths."""
    grids = {"mel": FeatureGrid(5, 0.01), "patches": FeatureGrid(3, 0.48, 0.24)}
    spans = frame_spans(3, 6.0)
    windows = {
        name: audio_windows(spans, grid.times_sec(2 + round(1.2 / grid.hop_sec), -0.4), width_sec, grid.hop_sec)
        for name, grid in grids.items()
    }
    projector = AudioProjector(grids, 8)
    attention = WindowedAudioAttention(16, AdapterConfig(inner_dim=6, heads=2, audio_dim=8))
    make_heard(projector, 1)
    make_heard(attention, 2)
    generator = torch.Generator().manual_seed(4)
    features = {
        name: torch.randn(batch, 2 + round(1.2 / grid.hop_sec), grid.dim, generator=generator)
        for name, grid in grids.items()
    }
    hidden = torch.randn(batch, 3 * 4, 16, generator=generator)
    return attention, hidden, projector(features, windows, torch.ones(batch))


@pytest.mark.parametrize("width_sec", [0.0, 0.1, math.inf])
def test_keys_and_values_computed_beforehand_change_no_bit(width_sec: float) -> None:
    attention, hidden, heard = context(width_sec)
    assert torch.equal(attention(hidden, heard, attention.keys_values(heard)), attention(hidden, heard))


def test_a_repeated_context_is_the_batch_over_and_over() -> None:
    attention, hidden, heard = context()
    assert not heard.full
    keep = torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0, 0.0])
    cached = attention.keys_values(heard)
    more = AudioContext(heard.tokens, heard.visible, heard.full, heard.keep, {"0": cached}).repeated(keep)
    assert more.keys_values is not None
    alone = attention(hidden, heard)
    for found in (
        attention(hidden.repeat(3, 1, 1), more),
        attention(hidden.repeat(3, 1, 1), more, more.keys_values["0"]),
    ):
        # Equal up to the order of float32 sums, which matrix products choose by batch size.
        torch.testing.assert_close(found[:2], alone, atol=2e-6, rtol=0)
        torch.testing.assert_close(found[4], alone[0], atol=2e-6, rtol=0)
        assert not found[[2, 3, 5]].any()


def test_what_lies_outside_a_window_is_not_heard() -> None:
    # Five or six features a frame: the padding points at feature 0, which must not be heard for that.
    count = 30
    grids = {"mel": FeatureGrid(5, 0.03)}
    windows = {"mel": audio_windows(frame_spans(4, 6.0), grids["mel"].times_sec(count, -0.1), 0.0)}
    assert not windows["mel"].visible.all()
    projector, attention = AudioProjector(grids, 8), WindowedAudioAttention(16, AdapterConfig(inner_dim=4, audio_dim=8))
    make_heard(projector, 1)
    make_heard(attention, 2)
    generator = torch.Generator().manual_seed(0)
    hidden, features = torch.randn(1, 4, 16, generator=generator), torch.randn(1, count, 5, generator=generator)
    for changed in range(count):
        louder = features.clone()
        louder[:, changed] += 10.0
        before, after = (attention(hidden, projector({"mel": f}, windows, torch.ones(1))) for f in (features, louder))
        moved = [frame for frame in range(4) if not torch.equal(before[0, frame], after[0, frame])]
        at = changed * 0.03 - 0.1
        assert moved == [frame for frame in range(4) if abs(at - frame / 6) <= 1 / 12]


@pytest.mark.parametrize("name", ["keys", "type", "training"])
def test_an_encoder_may_not_be_named_like_a_part_of_torchs_modules(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"encoders\.{name}: .*choose another name"):
        AudioProjector({name: FeatureGrid(5, 0.01)}, 4)
