"""`soundstage animate`: a picture and a sound to a video, or a table of them to many."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError, DataError
from .animate_files import Sampling, long_video, read_image, read_sound, seams_in_words, write_result
from .options import ConfigOption, PresetOption, Resolved, SetOption, WorkspaceOption, resolve

if TYPE_CHECKING:
    from ..models.animate import Animator

    Load = Callable[[], tuple[Animator, str]]

_VIDEO, _FOLDER = Path("animation.mp4"), Path("animations")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("animate")(animate)


def animate(
    image: Annotated[Path | None, typer.Option("--image", help="PNG, JPEG or WebP; the first frame.")] = None,
    audio: Annotated[Path | None, typer.Option("--audio", help="File with sound: WAV, MP3, MP4, ...")] = None,
    prompt: Annotated[str, typer.Option("--prompt", help="What is to be seen.")] = "",
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="models:/NAME@ALIAS, models:/NAME/VERSION, or a folder: a saved pipeline, a training stage's result, "
            "or backbone/ and adapter/ [default: the champion of the configured name].",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="MP4 file, or folder with --batch [default: animation.mp4, or animations]."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the sampler's noise.")] = 0,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Denoising steps.")] = None,
    audio_guidance: Annotated[float | None, typer.Option("--audio-guidance", min=0, help="1 is no guidance.")] = None,
    text_guidance: Annotated[float | None, typer.Option("--text-guidance", min=0, help="1 is no guidance.")] = None,
    long: Annotated[bool, typer.Option("--long", help="All of the sound, by overlapping windows.")] = False,
    overlap: Annotated[
        int | None, typer.Option("--overlap", min=1, help="Frames that windows share [default: a quarter of one].")
    ] = None,
    batch: Annotated[
        Path | None,
        typer.Option("--batch", help="CSV, JSON lines or Parquet: columns image, audio, prompt, and maybe seed, out."),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Videos of a table made together.")] = 4,
    preset: PresetOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Animate an image so that it moves with a sound, or every row of a table of them."""
    if overlap is not None and not long:
        raise ConfigError("--overlap is about the windows of --long; give both, or neither")
    sampling = Sampling(steps, audio_guidance, text_guidance, long, overlap)

    def load() -> tuple[Animator, str]:
        return _load(resolve(preset, config, overrides, workspace), model)

    if batch is None:
        if image is None or audio is None:
            raise ConfigError("give --image and --audio, or a table of them with --batch")
        _one(image, audio, prompt, out or _VIDEO, seed, sampling, load)
    else:
        if image is not None or audio is not None or prompt:
            raise ConfigError("--batch takes images, sounds and prompts from its table; give it or --image and --audio")
        _many(batch, out or _FOLDER, seed, sampling, batch_size, load)


def _load(resolved: Resolved, reference: str | None) -> tuple[Animator, str]:
    """The model, and what one would cite it as."""
    from ..models.animate import Animator
    from ..tracking.folders import resolve_model

    named = reference or f"models:/{resolved.config.registry.name}@champion"
    folders = resolve_model(resolved.workspace, resolved.config.tracking, named)
    return Animator.load(folders.backbone, folders.adapter), folders.origin


def _one(image: Path, audio: Path, prompt: str, out: Path, seed: int, sampling: Sampling, load: Load) -> None:
    picture, sound = read_image(image), read_sound(audio, sampling.long)  # before a model is loaded
    animator, origin = load()
    if sampling.long:
        made = long_video(animator, picture, sound, prompt, seed, sampling)
        frames, note = made.frames, seams_in_words(made)
    else:
        frames = animator.animate(picture, *sound, prompt, seed=seed, **sampling.arguments())
        rest = sound.duration_sec - len(frames) / animator.fps
        note = f"the window ends {rest:.1f} s before the sound, which --long would animate all" if rest > 0.05 else ""
    write_result(out, frames, animator.fps, sound)
    print(f"animation: {len(frames)} frames at {animator.fps} fps by {origin} in {out}")
    if note:
        print(note)


def _many(table: Path, out: Path, seed: int, sampling: Sampling, batch_size: int, load: Load) -> None:
    from .animate_rows import read_table
    from .animate_table import FAILED_FILE, TableRun, write_failures

    rows = list(read_table(table, out, seed))
    outcome = TableRun(*load(), sampling, batch_size, print).run(rows)
    write_failures(out, outcome)
    print(outcome.in_words())
    if outcome.failed:
        raise DataError(f"{len(outcome.failed)} rows of {table} failed; the reasons are in {out / FAILED_FILE}")
