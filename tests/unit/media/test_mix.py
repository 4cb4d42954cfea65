"""The mix is swresample's, which follows the same Recommendation; what cancels in it is noticed."""

from __future__ import annotations

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from soundstage.media.mix import Mixer, samples_of, weights

RATE = 16000


def block(samples: NDArray[np.float32], layout: str) -> av.AudioFrame:
    """A packed block of floats of (channels, samples)."""
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T).reshape(1, -1), format="flt", layout=layout)
    frame.sample_rate = RATE
    return frame


def noise(channels: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (channels, 512)).astype(np.float32)


@pytest.mark.parametrize(
    ("layout", "channels"),
    [("mono", 1), ("stereo", 2), ("2.1", 3), ("quad", 4), ("5.1", 6), ("5.1(side)", 6), ("7.1", 8)],
)
def test_the_mix_is_that_of_swresample(layout: str, channels: int) -> None:
    samples = noise(channels)
    # Between whole numbers swresample keeps the sum of its weights under one, as the mix does.
    whole = av.AudioResampler(format="s16", layout=layout, rate=RATE).resample(block(samples, layout))[0]
    (expected,) = av.AudioResampler(format="s16", layout="mono", rate=RATE).resample(whole)
    found = Mixer().mono(block(samples, layout))
    # Three roundings to 16 bits.
    np.testing.assert_allclose(found, expected.to_ndarray()[0] / 2**15, atol=3 / 2**15)


def test_names_decide_the_weights() -> None:
    np.testing.assert_allclose(
        weights(("FL", "FR", "FC", "LFE", "SL", "SR")) * (np.sqrt(2) + 2), [0.5**0.5] * 2 + [1, 0, 0.5, 0.5]
    )
    np.testing.assert_allclose(weights(("LFE",)), [1])
    np.testing.assert_allclose(weights(("NONE",) * 11), [1 / 11] * 11)
    np.testing.assert_allclose(weights(("AMBI0", "AMBI1", "AMBI2", "AMBI3")), [0.25] * 4)


@pytest.mark.parametrize("form", ["u8", "u8p", "s16", "s16p", "s32", "s32p", "flt", "fltp", "dbl", "dblp"])
@pytest.mark.parametrize("layout", ["stereo", "7.1"])
def test_samples_of_every_form_are_the_same(form: str, layout: str) -> None:
    samples = noise(2 if layout == "stereo" else 8)
    (frame,) = av.AudioResampler(format=form, layout=layout, rate=RATE).resample(block(samples, layout))
    np.testing.assert_allclose(samples_of(frame), samples, atol=1 / 127 if form.startswith("u8") else 1 / 2**15)


@pytest.mark.parametrize(
    ("gains", "instead"),
    [
        ((1, 1), None),
        ((1, 0), None),
        ((1, -0.5), None),
        ((1, -1), 0),
        ((-0.95, 1), 1),
        ((0, 0), None),
    ],
)
def test_the_louder_channel_stands_in_where_channels_cancel(gains: tuple[float, float], instead: int | None) -> None:
    mixer = Mixer()
    for seed in range(3):
        mixer.mono(block(np.asarray(gains, np.float32)[:, None] * noise(1, seed), "stereo"))
    assert mixer.instead() == instead


def test_a_lone_channel_is_not_taken_for_a_cancelled_mix() -> None:
    samples = np.zeros((8, 512), np.float32)
    samples[6] = noise(1)
    mixer = Mixer()
    mixer.mono(block(samples, "7.1"))
    assert mixer.instead() is None


def test_only_one_channel_is_heard_where_it_is_there() -> None:
    samples = noise(2)
    mixer = Mixer(only=1)
    np.testing.assert_array_equal(mixer.mono(block(samples, "stereo")), samples[1])
    np.testing.assert_array_equal(mixer.mono(block(samples[:1], "mono")), samples[0])
