"""What users of diffusers hand to a pipeline, as the arrays and seeds that the animator takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

OutputType = Literal["np", "pil", "latent"]
Picture = Image.Image | NDArray[np.uint8] | str | Path
Sound = tuple[NDArray[np.float32] | torch.Tensor, int]
"""waveform (samples,) or (channels, samples), float in -1..1, and its rate in Hz"""


def listed(value: Any) -> list[Any]:
    """A batch: a sound is a tuple, so only a list is one."""
    return list(value) if isinstance(value, list) else [value]


def picture(image: Picture) -> NDArray[np.uint8]:
    """(H, W, 3) RGB.

    Raises:
        ValueError: an array of another type or shape, or no picture at all.
    """
    if isinstance(image, str | Path):
        with Image.open(image) as opened:
            return np.asarray(opened.convert("RGB"))
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"))
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"image must be a PIL picture, a file, or uint8 (H, W, 3), found {found}")
    return image


def mono(audio: Sound) -> tuple[NDArray[np.float32], int]:
    """Channels mixed: (samples,) float32, and the rate.

    Raises:
        ValueError: not (waveform, sample_rate), integers instead of floats, or another shape.
    """
    if not isinstance(audio, tuple) or len(audio) != 2:
        raise ValueError(f"audio must be (waveform, sample_rate), found {type(audio).__name__}")
    waveform, sample_rate = np.asarray(audio[0]), int(audio[1])
    if waveform.ndim not in (1, 2) or not np.issubdtype(waveform.dtype, np.floating):
        raise ValueError(
            f"waveform must be float (samples,) or (channels, samples), found {waveform.dtype} {waveform.shape}"
        )
    mixed = waveform.mean(axis=0) if waveform.ndim == 2 else waveform
    return mixed.astype(np.float32), sample_rate


def drawn_seeds(count: int, generator: Any, seed: int | Sequence[int] | None) -> list[int]:
    """One seed a video: the given ones, else drawn from generators, else from torch's global state.

    Raises:
        ValueError: seed and generator together, or not one for all and not one each.
    """
    if generator is not None and seed is not None:
        raise ValueError("both generator and seed were given; give one")
    if seed is not None:
        seeds = [seed] * count if isinstance(seed, int) else list(seed)
    else:
        owners = list(generator) if isinstance(generator, list | tuple) else [generator] * count
        seeds = [_drawn(owner) for owner in owners]
    if len(seeds) != count:
        raise ValueError(f"{len(seeds)} seeds or generators for {count} videos; give one for all, or one each")
    return seeds


def _drawn(generator: torch.Generator | None) -> int:
    device = "cpu" if generator is None else generator.device
    return int(torch.randint(2**63 - 1, (), generator=generator, device=device))


def shown(frames: NDArray[np.uint8], output_type: OutputType) -> Any:
    """Frames (B, T, H, W, 3) uint8 as float32 in 0..1 of that shape, or as B lists of T pictures."""
    if output_type == "np":
        return cast(NDArray[np.float32], frames.astype(np.float32) / 255.0)
    return [[Image.fromarray(frame) for frame in video] for video in frames]


def placement(args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any, torch.dtype | None]:
    """Device and type out of the arguments that `torch.nn.Module.to` takes."""
    device, dtype = kwargs.get("device"), kwargs.get("dtype")
    for value in args:
        if isinstance(value, torch.dtype):
            dtype = value
        else:
            device = value
    return device, dtype
