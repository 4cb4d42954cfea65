"""Times are the contract: pictures and sound land where their time stamps say, in every container."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from soundstage.media.decode import DecodedClip, decode_clip
from soundstage.media.normalise import (
    NormaliseSettings,
    Span,
    in_order,
    nearest_frames,
    normalise,
    output_size,
    plan_spans,
)
from soundstage.media.opening import SourceError
from soundstage.media.probe import Limits, probe

from .makers import pulse_times, pulses, solid, turn_like_a_phone, write_plain, write_source

LIMITS = Limits(min_duration_sec=0.5, max_duration_sec=60.0, max_pixels=1_000_000)
SETTINGS = NormaliseSettings(short_side=48, fps=24, sample_rate=16000)
# AAC twice and two resamplers smear a pulse by a millisecond or so; a frame is 42 ms.
TOLERANCE_SEC = 0.01


def normalised(path: Path, target: Path, settings: NormaliseSettings = SETTINGS, span_sec: float = 60.0) -> DecodedClip:
    source = probe(path, LIMITS)
    spans = plan_spans(source.duration, span_sec)
    normalise(path, source, [(span, target) for span in spans], settings)
    return decode_clip(target)


def levels(clip: DecodedClip) -> NDArray[np.float64]:
    return clip.frames.mean(axis=(1, 2, 3))


def regular(count: int = 24, start: float = 0.0) -> list[float]:
    return [start + i / 12 for i in range(count)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "mov", "flv"])
def test_sound_that_starts_late_is_heard_at_its_time(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"late.{suffix}"
    write_source(path, [solid(90)] * 36, regular(36), [(0.7, pulses(1.5, 0.5))])
    clip = normalised(path, tmp_path / "out.mp4")
    assert pulse_times(clip.waveform, clip.sample_rate) == pytest.approx([1.2], abs=TOLERANCE_SEC)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_gap_in_the_sound_is_silence_and_moves_nothing(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"gap.{suffix}"
    pieces = [(0.0, pulses(0.8, 0.4)), (2.0, pulses(0.8, 0.4))]
    write_source(path, [solid(90)] * 36, regular(36), pieces)
    clip = normalised(path, tmp_path / "out.mp4")
    assert pulse_times(clip.waveform, clip.sample_rate) == pytest.approx([0.4, 2.4], abs=TOLERANCE_SEC)
    quiet = clip.waveform[round(1.1 * 16000) : round(1.9 * 16000)]
    assert np.abs(quiet).max() < 1e-3


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_clock_that_starts_at_a_hundred_seconds(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"offset.{suffix}"
    pictures = [solid(30)] * 12 + [solid(200)] * 24
    write_source(path, pictures, regular(36, start=100.0), [(100.0, pulses(3.0, 1.0))])
    clip = normalised(path, tmp_path / "out.mp4")
    assert float(probe(path, LIMITS).duration) == pytest.approx(3.0, abs=0.02)
    assert pulse_times(clip.waveform, clip.sample_rate) == pytest.approx([1.0], abs=TOLERANCE_SEC)
    assert np.flatnonzero(levels(clip) > 115)[0] == pytest.approx(24, abs=1)


def test_sound_before_the_first_picture_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "early.mkv"
    write_source(path, [solid(90)] * 24, regular(24, start=0.5), [(0.0, pulses(2.5, 0.25, 1.5))])
    clip = normalised(path, tmp_path / "out.mp4")
    assert pulse_times(clip.waveform, clip.sample_rate) == pytest.approx([1.0], abs=TOLERANCE_SEC)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_variable_frame_rate_becomes_constant_by_nearest_time_stamp(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(3)
    times = np.cumsum(np.r_[0.0, rng.uniform(0.02, 0.3, 15)]).round(3)
    shades = rng.permutation(16) * 14 + 20
    path = tmp_path / f"variable.{suffix}"
    write_source(path, [solid(int(shade)) for shade in shades], list(times), [(0.0, pulses(float(times[-1])))])
    clip = normalised(path, tmp_path / "out.mp4")
    ticks = np.arange(len(clip.frames)) / 24
    nearest = np.abs(ticks[:, None] - times[None]).argmin(axis=1)
    # Half the distance of two shades: a wrong picture cannot pass for the right one.
    assert np.abs(levels(clip) - shades[nearest]).max() < 6
    assert len(clip.frames) == pytest.approx(times[-1] * 24, abs=8)


@pytest.mark.parametrize("fps", [12, 24, 30])
def test_picture_and_sound_are_equally_long(tmp_path: Path, fps: int) -> None:
    path = write_plain(tmp_path / "a.mp4", 3.0, 1.0)
    normalised(path, tmp_path / "out.mp4", NormaliseSettings(48, fps, 16000))
    with av.open(str(tmp_path / "out.mp4")) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert video.frames == 3 * fps
        assert video.average_rate == fps
        # The last AAC block's length is the muxer's to state; it may round to one unit of its clock.
        assert float(audio.duration * audio.time_base) == pytest.approx(3.0, abs=0.002)
        assert (audio.rate, audio.layout.name, video.format.name) == (16000, "mono", "yuv420p")


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    path = write_plain(tmp_path / "a.mp4", 2.0, 1.0)
    normalised(path, tmp_path / "one.mp4")
    normalised(path, tmp_path / "two.mp4")
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()


def test_spans_of_a_long_source_follow_each_other(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    pictures = [solid(40)] * 24 + [solid(120)] * 24 + [solid(200)] * 24
    write_source(path, pictures, regular(72), [(0.0, pulses(6.0, 0.5, 2.5, 4.5))])
    source = probe(path, LIMITS)
    spans = plan_spans(source.duration, 2.5)
    targets = [(span, tmp_path / f"{span.start_us}.mp4") for span in spans]
    normalise(path, source, targets, SETTINGS)
    clips = [decode_clip(target) for _, target in targets]
    assert [len(clip.frames) for clip in clips] == [48, 48, 48]
    for clip, shade in zip(clips, (40, 120, 200), strict=True):
        assert levels(clip)[1:-1] == pytest.approx(shade, abs=8)
        assert pulse_times(clip.waveform, 16000) == pytest.approx([0.5], abs=TOLERANCE_SEC)


def test_spans_cover_the_source_without_gap() -> None:
    for duration, limit in [
        (Fraction(10), 12.0),
        (Fraction(12), 12.0),
        (Fraction(1201, 100), 12.0),
        (Fraction(100), 7.3),
    ]:
        spans = plan_spans(duration, limit)
        assert spans[0].start_us == 0
        assert all(a.start_us + a.duration_us == b.start_us for a, b in pairwise(spans))
        assert sum(span.duration_us for span in spans) == int(duration * 1_000_000)
        assert max(span.duration_us for span in spans) <= limit * 1e6
        assert len(spans) == int(-(-duration // Fraction(limit)))


def test_a_phone_held_upright_is_shown_upright(tmp_path: Path) -> None:
    path = tmp_path / "phone.mp4"
    picture = solid(40)
    picture[:, :32] = 210
    write_source(path, [picture] * 24, regular(), [(0.0, pulses(2.0))])
    turn_like_a_phone(path)
    clip = normalised(path, tmp_path / "out.mp4")
    assert clip.frames.shape[1:3] == (64, 48)
    assert clip.frames[3, :28].mean() > 190
    assert clip.frames[3, 36:].mean() < 60


def test_stretched_pixels_are_shown_square(tmp_path: Path) -> None:
    path = tmp_path / "wide.mp4"
    write_source(path, [solid(90)] * 24, regular(), [(0.0, pulses(2.0))], aspect=Fraction(2))
    assert normalised(path, tmp_path / "out.mp4").frames.shape[1:3] == (48, 128)


def test_odd_sizes_become_even(tmp_path: Path) -> None:
    path = tmp_path / "odd.mp4"
    write_source(path, [solid(90, 63, 33)] * 24, regular(), [(0.0, pulses(2.0))])
    assert normalised(path, tmp_path / "out.mp4").frames.shape[1:3] == (32, 64)


@pytest.mark.parametrize(
    ("size", "expected"), [((1280, 720), (170, 96)), ((720, 1280), (96, 170)), ((64, 48), (64, 48)), ((3, 1), (4, 2))]
)
def test_only_larger_pictures_are_scaled(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert output_size(*size, 96) == expected


def test_colours_of_high_definition_sources_are_kept(tmp_path: Path) -> None:
    """A picture in the BT.709 matrix, computed here in float64 from ITU-R BT.709 equations 3.2 to 3.4."""
    red, green, blue = 200 / 255, 60 / 255, 30 / 255
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    planes = [16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748]
    path = tmp_path / "hd.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=12, options={"crf": "1"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.colorspace, video.codec_context.color_range = 1, 1
        audio = container.add_stream("aac", rate=44100, layout="mono")
        for _ in range(24):
            frame = av.VideoFrame(64, 48, "yuv420p")
            for plane, value in zip(frame.planes, planes, strict=True):
                plane.update(bytes([round(value)]) * plane.buffer_size)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        sound = av.AudioFrame.from_ndarray(pulses(2.0)[None], format="fltp", layout="mono")
        sound.sample_rate = 44100
        container.mux([*audio.encode(sound), *audio.encode()])
    clip = normalised(path, tmp_path / "out.mp4")
    # Eight bits and two conversions: a wrong matrix would be off by 15 and more.
    assert clip.frames.mean(axis=(0, 1, 2)) == pytest.approx([200, 60, 30], abs=5)


def test_nearest_frames_agree_with_a_search_over_all() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        times = [Fraction(int(t), 1000) for t in np.unique(np.r_[0, rng.integers(1, 4000, 30)])]
        ticks = [Fraction(k, 24) for k in range(96)]
        chosen = list(nearest_frames(((t, t) for t in times), iter(ticks)))  # type: ignore[misc]
        assert chosen == [min(times, key=lambda t, tick=tick: (abs(t - tick), t)) for tick in ticks]


def test_time_that_runs_backwards_is_damage(tmp_path: Path) -> None:
    first, second = tmp_path / "a.ts", tmp_path / "b.ts"
    write_source(first, [solid(90)] * 24, regular(24, 50.0), [(50.0, pulses(2.0))])
    write_source(second, [solid(90)] * 24, regular(24), [(0.0, pulses(2.0))])
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(SourceError) as caught:
        normalised(joined, tmp_path / "out.mp4")
    assert caught.value.reason == "damaged"
    assert not (tmp_path / "out.mp4").exists()


def test_stamps_of_storage_are_sorted_and_pictures_stay_in_order() -> None:
    # Displayed I B B P B B P, stored I P B B P B B: the decoder gives the order of display with stamps of storage.
    stamps = [0, 2, 3, 1, 5, 6, 4]
    found = list(in_order((Fraction(stamp), name) for stamp, name in zip(stamps, "abcdefg", strict=True)))
    assert found == list(zip(range(7), "abcdefg", strict=True))


def test_a_jump_back_over_many_pictures_stays_one() -> None:
    stamps = [*range(50, 60), *range(10)]
    times = [time for time, _ in in_order((Fraction(stamp), stamp) for stamp in stamps)]
    assert sorted(times) == sorted(stamps)
    assert any(after < before for before, after in pairwise(times))


def test_span_counts_frames_to_the_nearest() -> None:
    assert [Span(0, us).num_frames(24) for us in (1, 2_000_000, 2_020_000, 2_022_000)] == [1, 48, 48, 49]
