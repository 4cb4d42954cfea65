"""What `soundstage animate` reads and writes: pictures, sounds, and the animation of one of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ..errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..models.animate import Animator
    from ..models.long import LongVideo

T = TypeVar("T")
MAX_LONG_SEC = 600


class Sound(NamedTuple):
    """waveform: (samples,) in -1..1, mono; sample_rate in Hz."""

    waveform: NDArray[np.float32]
    sample_rate: int

    @property
    def duration_sec(self) -> float:
        """Its length."""
        return len(self.waveform) / self.sample_rate


@dataclass(frozen=True)
class Sampling:
    """How videos are drawn; None is the model's own habit."""

    steps: int | None = None
    audio_guidance: float | None = None
    text_guidance: float | None = None
    long: bool = False
    overlap: int | None = None

    def arguments(self) -> dict[str, Any]:
        """As `Animator.animate` names them."""
        return {
            "num_inference_steps": self.steps,
            "audio_guidance_scale": self.audio_guidance,
            "text_guidance_scale": self.text_guidance,
        }

    def as_dict(self) -> dict[str, Any]:
        """For JSON files."""
        return asdict(self)


def read_image(path: Path, named: str = "--image") -> NDArray[np.uint8]:
    """A picture file as (H, W, 3) RGB; `named` is what messages call it.

    Raises:
        DataError: no such file, or not a picture; the path is named.
    """
    from ..tracking.request import decode_image

    return _decoded(path, named, decode_image)


def read_sound(path: Path, whole: bool = False, named: str = "--audio") -> Sound:
    """The sound of a file mixed to mono: its first minute, or all of it.

    Raises:
        DataError: no such file, no sound in it, or more than ten minutes of which all are wanted; the path is named.
    """
    from ..tracking.request import MAX_AUDIO_SEC, decode_sound

    limit = MAX_LONG_SEC + 1 if whole else MAX_AUDIO_SEC
    sound = Sound(*_decoded(path, named, lambda data: decode_sound(data, limit)))
    if whole and sound.duration_sec > MAX_LONG_SEC:
        raise DataError(f"{named} {path} is longer than {MAX_LONG_SEC} s; cut it into pieces")
    return sound


def _decoded(path: Path, named: str, decode: Callable[[bytes], T]) -> T:
    try:
        return decode(path.read_bytes())
    except OSError as error:
        raise DataError(f"{named} {path} cannot be read: {error.strerror}; check the path") from error
    except DataError as error:
        raise DataError(f"{named} {path}: {error}") from error


def long_video(
    animator: Animator, image: NDArray[np.uint8], sound: Sound, prompt: str, seed: int, sampling: Sampling
) -> LongVideo:
    """All of the sound, by overlapping windows."""
    from ..models.long import animate_long

    return animate_long(
        animator, image, *sound, prompt, seed=seed, overlap_frames=sampling.overlap, **sampling.arguments()
    )


def write_result(path: Path, frames: NDArray[np.uint8], fps: int, sound: Sound) -> None:
    """An MP4 with the sound; small pictures are enlarged until people see them."""
    from ..media.encode import write_animation
    from ..media.frames import enlarged

    write_animation(path, enlarged(frames), fps, *sound)


def seams_in_words(made: LongVideo) -> str:
    """What the measure of seams found, for a line of output."""
    report = made.report
    if not report.seams:
        return "one window holds the sound: no seams"
    drift = f"drift from the first frame to the last window's: {report.drift[-1]:.1f} levels of 255"
    if report.seam_ratio is None:
        return f"{len(report.seams)} seams; the video stands still between them: nothing to compare with; {drift}"
    each = ", ".join(f"frame {seam.frame}: {seam.ratio:.2f}" for seam in report.seams)
    return (
        f"{len(report.seams)} seams; the change there over the usual one, 1 being none to see: "
        f"{report.seam_ratio:.2f} at worst ({each}); {drift}"
    )
