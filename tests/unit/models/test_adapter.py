"""Windowed attention against a dense, masked, looped reference in float64."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from soundstage.config.tree import AdapterConfig
from soundstage.models.adapter import AudioProjector, WindowedAudioAttention
from soundstage.models.windows import audio_windows, frame_spans

from .makers import make_heard

Array = NDArray[np.float64]


def weights(module: torch.nn.Module) -> dict[str, Array]:
    return {name: tensor.double().numpy() for name, tensor in module.state_dict().items()}


def gelu(x: Array) -> Array:
    return np.asarray(0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))))


def dense_reference(
    projector: dict[str, Array],
    attention: dict[str, Array],
    heads: int,
    hidden: Array,
    audio: Array,
    visible: NDArray[np.bool_],
    relative: Array,
) -> Array:
    """Every token of frame f attends to all T features, those outside the window masked by minus infinity.

    hidden (F, S, C), audio (T, D), visible (F, T), relative (F, T) seconds to the frame's centre.
    """
    out = np.zeros_like(hidden)
    frequencies = 2 * np.pi * 2.0 ** np.arange(6) / 4.0
    for f, s in np.ndindex(hidden.shape[:2]):
        token = hidden[f, s]
        query = (
            attention["to_q.weight"] @ ((token - token.mean()) / np.sqrt(token.var() + 1e-5)) + attention["to_q.bias"]
        )
        code = np.concatenate(
            [np.sin(relative[f, :, None] * frequencies), np.cos(relative[f, :, None] * frequencies)], 1
        )
        heard = audio @ projector["features.weight"].T + projector["features.bias"] + code @ projector["time.weight"].T
        key, value = np.split(gelu(heard) @ attention["to_kv.weight"].T + attention["to_kv.bias"], 2, axis=1)
        parts = []
        for q, k, v in zip(np.split(query, heads), np.split(key, heads, 1), np.split(value, heads, 1), strict=True):
            logits = np.where(visible[f], k @ q / math.sqrt(len(q)), -np.inf)
            share = np.exp(logits - logits.max())
            parts.append(share / share.sum() @ v)
        out[f, s] = attention["to_out.weight"] @ np.concatenate(parts) + attention["to_out.bias"]
    return out


CASES = [
    # frames, spatial tokens, hidden, inner, heads, audio width, features, stride, fps, window
    (5, 4, 16, 4, 1, 6, 5, 1, 5, Fraction(0)),
    (4, 3, 24, 6, 3, 5, 7, 4, 10, Fraction(0)),
    (12, 2, 8, 8, 2, 9, 3, 1, 5, Fraction(1, 4)),
    (3, 1, 32, 2, 2, 4, 11, 4, 20, Fraction(3, 10)),
    (6, 5, 16, 12, 4, 8, 4, 4, 10, None),
    (1, 9, 16, 4, 2, 8, 4, 1, 10, None),
]


@pytest.mark.parametrize("case", CASES, ids=[f"f{c[0]}-heads{c[4]}-stride{c[7]}-window{c[9]}" for c in CASES])
def test_attention_equals_the_dense_reference(case: tuple[int, ...]) -> None:
    frames, spatial, hidden_dim, inner, heads, audio_dim, feature_dim, stride, fps, window = case
    exact = [Fraction(n, 20) for n in range(-8, 20 * (frames * stride // fps + 1))]
    times = torch.tensor([float(t) for t in exact])
    windows = audio_windows(
        frame_spans(frames, float(fps), stride), times, math.inf if window is None else float(window)
    )
    config = AdapterConfig(inner_dim=inner, heads=heads, audio_dim=audio_dim)
    projector, attention = AudioProjector(feature_dim, audio_dim), WindowedAudioAttention(hidden_dim, config)
    make_heard(projector, 1, 0.5)
    make_heard(attention, 2, 0.5)
    generator = torch.Generator().manual_seed(frames)
    hidden = torch.randn(2, frames * spatial, hidden_dim, generator=generator)
    audio = torch.randn(2, len(times), feature_dim, generator=generator)

    found = attention(hidden, projector(audio, windows, torch.ones(2))).detach()

    spans = [
        (Fraction(max(0, stride * (f - 1) + 1) if f else 0, fps), Fraction(stride * f, fps)) for f in range(frames)
    ]
    visible = np.array([[window is None or a - window <= t <= b + window for t in exact] for a, b in spans])
    relative = np.array([[float(t - (a + b) / 2) for t in exact] for a, b in spans])
    for index in range(2):
        tokens = hidden[index].double().numpy().reshape(frames, spatial, hidden_dim)
        wanted = dense_reference(
            weights(projector), weights(attention), heads, tokens, audio[index].double().numpy(), visible, relative
        )
        # float32 against float64: a few dozen roundings of 6e-8 on values of order one, and time codes of up to 50 rad.
        np.testing.assert_allclose(found[index].reshape(wanted.shape), wanted, atol=2e-5)


def test_a_sample_without_audio_gets_exactly_nothing() -> None:
    windows = audio_windows(frame_spans(3, 6.0), torch.arange(-10, 60) / 100, 0.1)
    projector, attention = AudioProjector(5, 8), WindowedAudioAttention(16, AdapterConfig(inner_dim=4, audio_dim=8))
    make_heard(attention)
    hidden = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(0))
    added = attention(hidden, projector(torch.ones(2, 70, 5), windows, torch.tensor([1.0, 0.0])))
    assert added[0].abs().min() > 0
    assert not added[1].any()
