"""Which audio a latent frame may see, against counting by hand in exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch

from soundstage.config.audio import LogMelConfig
from soundstage.models.audio.base import FeatureGrid
from soundstage.models.audio.mel import LogMelOnset
from soundstage.models.windows import audio_windows, frame_spans

HOP = Fraction(1, 100)
SAMPLE_RATE = 16000


def times(first: int, last: int, hop: Fraction = HOP) -> tuple[list[Fraction], torch.Tensor]:
    """Multiples `first` to `last - 1` of the hop."""
    exact = [hop * n for n in range(first, last)]
    return exact, torch.tensor([float(t) for t in exact])


def exact_span(latent: int, fps: int, stride: int) -> tuple[Fraction, Fraction]:
    """Frames stride (latent - 1) + 1 .. stride latent of a causal codec, half a frame period on either side."""
    first = stride * (latent - 1) + 1 if latent else 0
    return Fraction(2 * first - 1, 2 * fps), Fraction(2 * stride * latent + 1, 2 * fps)


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
    assert (spans * 8).tolist() == [[first - 0.5, last + 0.5] for first, last in expected]


@pytest.mark.parametrize("stride", [1, 4, 8])
@pytest.mark.parametrize("fps", [6.0, 25.0, 30000 / 1001])
def test_spans_of_neighbours_meet_and_cover_the_video(stride: int, fps: float) -> None:
    spans = frame_spans(9, fps, stride)
    assert torch.equal(spans[1:, 0], spans[:-1, 1])
    frames = 1 + 8 * stride
    # float32 of seconds: one rounding of 6e-8 on values up to 11.
    torch.testing.assert_close(spans[-1, 1] - spans[0, 0], torch.tensor(frames / fps), atol=0, rtol=2e-7)


@pytest.mark.parametrize("window", [Fraction(0), Fraction(1, 25), Fraction(1, 4), Fraction(7, 10)])
@pytest.mark.parametrize(("stride", "fps", "frames"), [(1, 5, 12), (1, 25, 50), (4, 10, 7), (4, 4, 21), (8, 25, 9)])
@pytest.mark.parametrize("hop", [HOP, Fraction(1, 50), Fraction(12, 25)], ids=["10ms", "20ms", "480ms"])
def test_windows_hold_exactly_the_features_that_touch_a_span(
    window: Fraction, stride: int, fps: int, frames: int, hop: Fraction
) -> None:
    check_windows(window, stride, fps, frames, hop)


def test_an_edge_belongs_to_the_window_at_the_end_of_a_hundred_seconds_too() -> None:
    check_windows(Fraction(7, 10), 1, 10, 1000, Fraction(1, 50))


def check_windows(window: Fraction, stride: int, fps: int, frames: int, hop: Fraction) -> None:
    """Against fractions; where half frames, window and half hop share a grid with the features, some lie on edges."""
    duration = Fraction(stride * (frames - 1) + 1, fps)
    exact, stamps = times(-math.ceil(1 / hop), math.ceil((duration + 1) / hop), hop)
    windows = audio_windows(frame_spans(frames, float(fps), stride), stamps, float(window), float(hop))
    for frame in range(frames):
        first, last = exact_span(frame, fps, stride)
        reach = window + hop / 2
        low, high = (first - reach - exact[0]) / hop, (last + reach - exact[0]) / hop
        wanted = list(range(math.ceil(low), math.floor(high) + 1))
        shown = windows.visible[frame]
        assert windows.index[frame][shown].tolist() == wanted
        relative = [float(exact[i] - (first + last) / 2) for i in wanted]
        # Differences of float32 seconds: two roundings of half a unit in the last place, 3.8e-6 s each at 100 s.
        torch.testing.assert_close(windows.relative_sec[frame][shown], torch.tensor(relative), atol=1e-5, rtol=0)
        assert not windows.index[frame][~shown].any()
        assert not windows.relative_sec[frame][~shown].any()


def test_window_0_is_the_slice_of_a_frame_and_every_feature_has_one() -> None:
    # Hops of 1/50 s centred between the edges of frames of 1/25 s: no feature touches two frames, none is lost.
    stamps = torch.tensor([float(Fraction(2 * n + 1, 100) - Fraction(1, 50)) for n in range(40)])
    windows = audio_windows(frame_spans(20, 25.0), stamps, 0.0, 0.0)
    assert windows.index.tolist() == [[2 * frame, 2 * frame + 1] for frame in range(20)]
    assert windows.visible.all()


@pytest.mark.parametrize("window_sec", [0.0, 0.02])
@pytest.mark.parametrize("stride", [1, 4, 8])
def test_a_coarse_encoder_has_something_to_say_in_every_small_window(window_sec: float, stride: int) -> None:
    # Patches of 0.96 s every 0.48 s, as YAMNet-class networks have them, against frames of 0.04 s.
    grid = FeatureGrid(dim=1, hop_sec=0.48, first_sec=0.48)
    stamps = grid.times_sec(12, -1.0)
    spans = frame_spans(8, 25.0, stride)
    windows = audio_windows(spans, stamps, window_sec, grid.hop_sec)
    for frame, (first, last) in enumerate(spans.tolist()):
        nearest = (stamps - (first + last) / 2).abs().argmin()
        assert nearest in windows.index[frame][windows.visible[frame]]
        touching = windows.relative_sec[frame][windows.visible[frame]].abs()
        assert touching.max() <= (last - first) / 2 + window_sec + 0.24 + 1e-5
    if stride == 1:
        with pytest.raises(ValueError, match="has no audio feature"):
            audio_windows(spans, stamps, window_sec, 0.0)


def test_an_infinite_window_sees_everything() -> None:
    _, stamps = times(-50, 250)
    windows = audio_windows(frame_spans(12, 6.0), stamps, math.inf)
    assert windows.visible.all()
    assert torch.equal(windows.index, torch.arange(300).expand(12, -1))


def test_a_frame_without_audio_is_named() -> None:
    _, stamps = times(0, 150)
    with pytest.raises(ValueError, match=r"latent frame 11 \(1\.750\.\.1\.917 s\) has no audio feature within 0\.25 s"):
        audio_windows(frame_spans(12, 6.0), stamps, 0.25)


@pytest.mark.parametrize("at_sec", [0.03, 0.5, 1.2, 1.9])
def test_a_click_is_seen_by_the_frames_around_its_time_and_no_other(at_sec: float) -> None:
    config, margin, fps, window = LogMelConfig(), 0.5, 6, 0.1
    encoder = LogMelOnset(config, SAMPLE_RATE)
    sound = torch.zeros(3 * SAMPLE_RATE)
    sound[round((at_sec + margin) * SAMPLE_RATE)] = 0.9
    features = encoder(sound, -margin)
    hop = encoder.grid.hop_sec
    windows = audio_windows(frame_spans(12, float(fps)), features.times_sec, window, hop)
    loud = (features.features[:, :-1].mean(dim=1) - features.features[0, :-1].mean()) > 0.05
    sees = (loud[windows.index] & windows.visible).any(dim=1)
    # A frame stands for half a period on either side of its instant, a feature for half a hop. An analysis window is
    # 32 ms long: a click colours features within 16 ms of itself.
    slice_sec = 0.5 / fps + window
    reach = config.n_fft / 2 / SAMPLE_RATE
    surely = [abs(frame / fps - at_sec) <= slice_sec for frame in range(12)]
    possibly = [abs(frame / fps - at_sec) <= slice_sec + hop / 2 + reach for frame in range(12)]
    assert any(surely)
    assert not all(possibly)
    for seen, must, may in zip(sees.tolist(), surely, possibly, strict=True):
        assert seen >= must
        assert seen <= may
