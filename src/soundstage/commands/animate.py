"""`soundstage animate`: one image and one sound to a video."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from ..errors import DataError
from .options import ConfigOption, PresetOption, SetOption, WorkspaceOption, resolve

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("animate")(animate)


def animate(
    image: Annotated[Path, typer.Option("--image", help="PNG or JPEG; the first frame.")],
    audio: Annotated[Path, typer.Option("--audio", help="File with sound: WAV, MP3, MP4, ...")],
    prompt: Annotated[str, typer.Option("--prompt", help="What is to be seen.")] = "",
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="models:/NAME@ALIAS, models:/NAME/VERSION, or a folder: a training stage's result, or backbone/ and "
            "adapter/ [default: the champion of the configured name].",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="MP4 file to write.")] = Path("animation.mp4"),
    seed: Annotated[int, typer.Option("--seed", help="Seed of the sampler's noise.")] = 0,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Denoising steps.")] = None,
    audio_guidance: Annotated[float | None, typer.Option("--audio-guidance", min=0, help="1 is no guidance.")] = None,
    preset: PresetOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Animate an image so that it moves with a sound."""
    from ..media.encode import write_video
    from ..media.frames import enlarged
    from ..tracking.folders import resolve_model

    picture = read_image(image)
    waveform, sample_rate = read_sound(audio)
    tree, place = resolve(preset, config, overrides, workspace)
    reference = model or f"models:/{tree.registry.name}@champion"
    folders = resolve_model(place, tree.tracking, reference)

    from ..models.animate import Animator

    animator = Animator.load(folders.backbone, folders.adapter)
    frames = animator.animate(
        picture,
        waveform,
        sample_rate,
        prompt,
        seed=seed,
        num_inference_steps=steps,
        audio_guidance_scale=audio_guidance,
    )
    sound = waveform[: round(len(frames) / float(animator.fps) * sample_rate)]
    write_video(out, enlarged(frames), animator.fps, sound, sample_rate)
    print(f"animation: {len(frames)} frames at {float(animator.fps):g} fps by {folders.origin} in {out}")


def read_image(path: Path) -> NDArray[np.uint8]:
    """A picture file as (H, W, 3) RGB.

    Raises:
        DataError: no such file, or not a picture; the path is named.
    """
    from ..tracking.request import decode_image

    return _decoded(path, "--image", decode_image)


def read_sound(path: Path) -> tuple[NDArray[np.float32], int]:
    """The sound of a file mixed to mono: (samples,) in -1..1, and its rate in Hz.

    Raises:
        DataError: no such file, or no sound in it; the path is named.
    """
    from ..tracking.request import decode_sound

    return _decoded(path, "--audio", decode_sound)


def _decoded(path: Path, option: str, decode: Callable[[bytes], T]) -> T:
    try:
        return decode(path.read_bytes())
    except OSError as error:
        raise DataError(f"{option} {path} cannot be read: {error.strerror}; check the path") from error
    except DataError as error:
        raise DataError(f"{option} {path}: {error}") from error
