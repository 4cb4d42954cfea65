"""Which audio a latent frame may see, against counting by hand in exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch

from soundstage.config.tree import AudioFeatureConfig
from soundstage.models.audio.mel import LogMelOnset
from soundstage.models.windows import audio_windows, frame_spans

HOP = Fraction(1, 100)


def times(first: int, last: int, hop: Fraction = HOP) -> tuple[list[Fraction], torch.Tensor]:
    exact = [hop * n for n in range(first, last)]
    return exact, torch.tensor([float(t) for t in exact])


@pytest.mark.parametrize(
    ("stride", "expected"),
    [
        (1, [(0, 0), (1, 1), (2, 2), (3, 3)]),
        (4, [(0, 0), (1, 4), (5, 8), (9, 12)]),
        (8, [(0, 0), (1, 8), (9, 16), (17, 24)]),
    ],
)
def test_a_latent_covers_the_frames_of_a_causal_codec(stride: int, expected: list[tuple[int, int]]) -> None:
    spans = frame_spans(4, 8.0, stride)
    assert (spans * 8).tolist() == [list(map(float, pair)) for pair in expected]


@pytest.mark.parametrize("window", [Fraction(0), Fraction(1, 25), Fraction(1, 4), Fraction(7, 10)])
@pytest.mark.parametrize(("stride", "fps", "frames"), [(1, 5, 12), (1, 25, 50), (4, 10, 7), (4, 4, 21)])
def test_windows_hold_exactly_the_features_near_a_span(window: Fraction, stride: int, fps: int, frames: int) -> None:
    # Frame instants and hops share a grid, so features lie exactly on window edges, which belong to the window.
    exact, stamps = times(-30, 2400)
    windows = audio_windows(frame_spans(frames, float(fps), stride), stamps, float(window))
    for frame in range(frames):
        first = Fraction(max(0, stride * (frame - 1) + 1), fps) if frame else Fraction(0)
        last = Fraction(stride * frame, fps)
        wanted = [i for i, t in enumerate(exact) if first - window <= t <= last + window]
        shown = windows.visible[frame]
        assert windows.index[frame][shown].tolist() == wanted
        relative = [float(exact[i] - (first + last) / 2) for i in wanted]
        torch.testing.assert_close(windows.relative_sec[frame][shown], torch.tensor(relative), atol=3e-6, rtol=0)
        assert not windows.index[frame][~shown].any()
        assert not windows.relative_sec[frame][~shown].any()


def test_an_infinite_window_sees_everything() -> None:
    _, stamps = times(-50, 250)
    windows = audio_windows(frame_spans(12, 6.0), stamps, math.inf)
    assert windows.visible.all()
    assert torch.equal(windows.index, torch.arange(300).expand(12, -1))


def test_a_frame_without_audio_is_named() -> None:
    _, stamps = times(0, 150)
    with pytest.raises(ValueError, match=r"latent frame 11 \(1\.833\.\.1\.833 s\) has no audio feature within 0\.25 s"):
        audio_windows(frame_spans(12, 6.0), stamps, 0.25)


@pytest.mark.parametrize("at_sec", [0.03, 0.5, 1.2, 1.9])
def test_a_click_is_seen_by_the_frames_around_its_time_and_no_other(at_sec: float) -> None:
    config, margin, fps, window = AudioFeatureConfig(), 0.5, 6, 0.1
    sound = torch.zeros(3 * config.sample_rate)
    sound[round((at_sec + margin) * config.sample_rate)] = 0.9
    features = LogMelOnset(config)(sound, -margin)
    windows = audio_windows(frame_spans(12, float(fps)), features.times_sec, window)
    loud = (features.features[:, :-1].mean(dim=1) - features.features[0, :-1].mean()) > 0.05
    sees = (loud[windows.index] & windows.visible).any(dim=1)
    # An analysis window is 32 ms long: a click colours features within 16 ms of itself.
    reach = config.n_fft / 2 / config.sample_rate
    surely = [abs(frame / fps - at_sec) <= window - 0.01 for frame in range(12)]
    possibly = [abs(frame / fps - at_sec) <= window + reach for frame in range(12)]
    assert any(surely)
    assert not all(possibly)
    for seen, must, may in zip(sees.tolist(), surely, possibly, strict=True):
        assert seen >= must
        assert seen <= may
