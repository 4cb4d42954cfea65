"""Sound on the picture's clock: each decoded block lands where its time stamp says, gaps are silence."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from .mix import Mixer
from .opening import SourceError, check_sound, decode_packet, frame_time, open_media
from .probe import SourceProbe

# Containers round time stamps to a millisecond or a frame of some clock. Blocks that follow each other to within this
# are one run, resampled as a whole; a larger step is a gap or an overlap and starts a run of its own.
_STEP_SEC = Fraction(1, 100)


def decode_audio(path: Path, source: SourceProbe, sample_rate: int) -> NDArray[np.float32]:
    """Mono sound of `path` at `sample_rate`, (samples,) from the first video frame to the end of the last.

    All channels are mixed as `media.mix` says. Where they cancel each other, as stereo in opposite phase does, so that
    the mix keeps less than 1 % of the loudest channel's energy, that channel is taken instead, for the whole source.
    Where the source has no sound there is silence; where blocks overlap the later wins.

    Raises:
        SourceError: nothing can be decoded, or a sample is not a finite number.
    """
    mixer = Mixer()
    samples = _decode(path, source, sample_rate, mixer)
    loudest = mixer.instead()
    return samples if loudest is None else _decode(path, source, sample_rate, Mixer(only=loudest))


def _decode(path: Path, source: SourceProbe, sample_rate: int, mixer: Mixer) -> NDArray[np.float32]:
    track = _Track(math.ceil(source.duration * sample_rate), sample_rate, mixer)
    with open_media(path, source.max_pixels) as container:
        stream = container.streams[source.audio_index]
        for packet in container.demux(stream):
            for frame in decode_packet(packet, started=track.started):
                check_sound(frame.sample_rate, frame.layout.nb_channels)
                track.add(frame, frame_time(frame) - source.origin)
    track.end_run()
    if not track.started:
        raise SourceError("damaged", "no sound can be decoded")
    if not np.isfinite(track.samples).all():
        raise SourceError("damaged", "the sound holds samples that are not finite numbers")
    # Decoders overshoot full scale a little, files of floats as they like; no encoder takes that.
    return np.clip(track.samples, -1.0, 1.0)


class _Track:
    """The sound under construction."""

    def __init__(self, length: int, sample_rate: int, mixer: Mixer) -> None:
        self.samples = np.zeros(length, np.float32)
        self.started = False
        self._rate = sample_rate
        self._mixer = mixer
        self._resampler: av.AudioResampler | None = None
        self._source_rate = 0
        self._position = 0
        """sample at which the run's next output lands"""
        self._expected = Fraction(0)
        """time at which the run's next block should start"""

    def add(self, frame: av.AudioFrame, time: Fraction) -> None:
        """Place one decoded block that starts at `time` seconds."""
        rate = frame.sample_rate
        if self._resampler is None or rate != self._source_rate or abs(time - self._expected) > _STEP_SEC:
            self.end_run()
            self._resampler = av.AudioResampler(format="flt", layout="mono", rate=self._rate)
            self._source_rate, self._position, self._expected = rate, round(time * self._rate), time
        self.started = True
        self._expected += Fraction(frame.samples, rate)
        # Without a time stamp: the resampler would otherwise pad by them on its own terms.
        mix = np.ascontiguousarray(self._mixer.mono(frame)[None])
        mono = av.AudioFrame.from_ndarray(mix, format="flt", layout="mono")
        mono.sample_rate = rate
        self._put(self._resampler.resample(mono))

    def end_run(self) -> None:
        """Take what the resampler still holds."""
        if self._resampler is not None:
            self._put(self._resampler.resample(None))
            self._resampler = None

    def _put(self, blocks: list[av.AudioFrame]) -> None:
        for block in blocks:
            part = block.to_ndarray()[0]
            begin, end = max(self._position, 0), min(self._position + len(part), len(self.samples))
            if begin < end:
                self.samples[begin:end] = part[begin - self._position : end - self._position]
            self._position += len(part)
