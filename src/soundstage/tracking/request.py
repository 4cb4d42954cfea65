"""Between the bytes that a served model exchanges and the arrays that the model works on.

A request is untrusted: pictures and sounds are read by lists of formats, and no further than a fixed size.
"""

from __future__ import annotations

import io
import tempfile
import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ..errors import DataError
from ..media.encode import write_animation

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP")
AUDIO_CONTAINERS = "wav,aiff,flac,mp3,ogg,aac,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts"
MAX_PIXELS = 7680 * 4320
MAX_AUDIO_SEC = 60


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """A picture file as (H, W, 3) RGB.

    Raises:
        DataError: not one of the formats, damaged, or more than 8K pixels.
    """
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is judged on the next line
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    f"image of {image.width}x{image.height} pixels; at most 7680x4320 are read: scale it down"
                )
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"image of {len(data)} bytes cannot be read ({error}); expected PNG, JPEG or WebP") from error


def decode_sound(data: bytes, max_sec: int = MAX_AUDIO_SEC) -> tuple[NDArray[np.float32], int]:
    """The first `max_sec` of the sound of a file, mixed to mono: (samples,) in -1..1, and its rate in Hz.

    Raises:
        DataError: no known container, no sound in it, or damaged.
    """
    options = {"format_whitelist": AUDIO_CONTAINERS, "protocol_whitelist": "file"}
    try:
        with av.open(io.BytesIO(data), "r", options=options) as container:
            if not container.streams.audio:
                raise DataError(
                    f"audio file of {len(data)} bytes holds no sound; expected WAV, FLAC, MP3, M4A or a video"
                )
            blocks, rate = _mono_blocks(container, max_sec)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise DataError(
            f"audio of {len(data)} bytes cannot be read ({error}); expected WAV, FLAC, MP3, M4A or a video with sound"
        ) from error
    if not blocks:
        raise DataError(f"audio file of {len(data)} bytes holds no sample of sound; record or cut it again")
    waveform = np.concatenate(blocks)[: max_sec * rate]
    if not np.isfinite(waveform).all():
        raise DataError("the sound holds samples that are not finite numbers; write it as 16-bit PCM")
    return waveform, rate


def _mono_blocks(container: av.container.InputContainer, max_sec: int) -> tuple[list[NDArray[np.float32]], int]:
    stream = container.streams.audio[0]
    stream.codec_context.thread_count = 1
    rate = int(stream.rate)
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
    blocks: list[NDArray[np.float32]] = []
    held = 0
    for frame in container.decode(stream):
        for part in resampler.resample(frame):
            blocks.append(part.to_ndarray()[0].astype(np.float32))
            held += blocks[-1].shape[0]
        if held >= max_sec * rate:
            return blocks, rate
    blocks.extend(part.to_ndarray()[0].astype(np.float32) for part in resampler.resample(None))
    return blocks, rate


def encode_answer(
    frames: NDArray[np.uint8], fps: Fraction | int, waveform: NDArray[np.float32], sample_rate: int
) -> bytes:
    """Frames (T, H, W, 3) and the sound that belongs to them as the bytes of an MP4 file.

    Sound is cut, or continued with silence, to the length of the picture.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "animated.mp4"
        write_animation(path, frames, fps, waveform, sample_rate)
        return path.read_bytes()
