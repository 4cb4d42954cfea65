"""Do picture, sound and caption tell of the same thing? Cosines by pretrained encoders that the configuration names.

CLIP and SigLIP place pictures and texts in one space, CLAP sounds and texts in another: a cosine between a vector of
the one and a vector of the other means nothing. So the cosine of picture and sound stays null; it takes a model that
was trained on both together, and none is supported yet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError
from .threads import one_thread

PICTURES = 4
"""pictures of a clip that are compared with its caption"""
_IMAGE_TEXT = frozenset({"clip", "siglip"})
_AUDIO_TEXT = frozenset({"clap"})
# SigLIP was trained on captions padded to full length, without a mask.
_PADDED_FULLY = frozenset({"siglip"})


def spread_frames(num_frames: int) -> frozenset[int]:
    """Indices of the frames in the middle of four equal parts of a clip; all frames of a shorter one."""
    return (
        frozenset(int((part + 0.5) * num_frames / PICTURES) for part in range(PICTURES)) if num_frames else frozenset()
    )


def image_text_cosine(pictures: NDArray[np.uint8], caption: str, model: str) -> float:
    """Mean over pictures (N, H, W, 3) of the cosine between picture and caption, by CLIP or SigLIP, -1..1.

    `model` is a folder or a hub id. Scaling, cropping and tokens are those of the model's own processor. Cosines of two
    models are never compared; with CLIP a fitting caption lies at 0.2 to 0.35, with SigLIP lower. A caption that tells
    of what is heard and not seen scores low, and so does one longer than the model's 64 to 77 tokens, which is cut.

    Raises:
        ConfigError: the model cannot be loaded, or is of another kind.
    """
    encoder = _load(model, "score.image_text_model", _IMAGE_TEXT)
    padding = "max_length" if encoder.kind in _PADDED_FULLY else True
    inputs = encoder.processor(
        images=list(pictures), text=[caption], return_tensors="pt", padding=padding, truncation=True
    )
    with one_thread():
        outputs = encoder.network(**inputs)
    return _mean_cosine(outputs.image_embeds, outputs.text_embeds)


def audio_text_cosine(waveform: NDArray[np.float32], sample_rate: int, caption: str, model: str) -> float:
    """Cosine between (samples,) mono sound and the caption, by CLAP, -1..1.

    `model` is a folder or a hub id. The sound is resampled to the model's rate; of a sound longer than it takes (10 s)
    the middle is heard, where its own processor would draw a part at random. A caption that tells of what is seen and
    not heard scores low. A clip of digital silence has a cosine too: ask `silence_share` first.

    Raises:
        ConfigError: the model cannot be loaded, or is of another kind.
    """
    from ...media.sound import resample

    encoder = _load(model, "score.audio_text_model", _AUDIO_TEXT)
    extractor = encoder.processor.feature_extractor
    sound = resample(waveform, sample_rate, extractor.sampling_rate)
    spare = max(0, len(sound) - extractor.nb_max_samples)
    sound = sound[spare // 2 : len(sound) - (spare - spare // 2)]
    inputs = encoder.processor(
        audio=[sound], text=[caption], sampling_rate=extractor.sampling_rate, return_tensors="pt", padding=True
    )
    with one_thread():
        outputs = encoder.network(**inputs)
    return _mean_cosine(outputs.audio_embeds, outputs.text_embeds)


def check_encoder(model: str | None, field: str) -> None:
    """Refuse a configured model that is not there or of another kind, before any clip is decoded; reads no weights.

    Raises:
        ConfigError: as above; it names the configuration field.
    """
    if model is not None:
        _kind(model, field, _IMAGE_TEXT if field == "score.image_text_model" else _AUDIO_TEXT)


@dataclass(frozen=True)
class _Encoder:
    network: Callable[..., Any]
    processor: Any
    kind: str


@lru_cache(maxsize=2)
def _load(model: str, field: str, kinds: frozenset[str]) -> _Encoder:
    from transformers import AutoModel, AutoProcessor

    kind = _kind(model, field, kinds)
    try:
        network, processor = AutoModel.from_pretrained(model).eval(), AutoProcessor.from_pretrained(model)
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(f"{field}={model!r} cannot be loaded: {error}") from error
    return _Encoder(network, processor, kind)


def _kind(model: str, field: str, kinds: frozenset[str]) -> str:
    from transformers import AutoConfig

    try:
        kind = str(AutoConfig.from_pretrained(model).model_type)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{field}={model!r} is neither a folder with a model nor a hub id that can be reached: {error}"
        ) from error
    if kind not in kinds:
        raise ConfigError(
            f"{field}={model!r} is a model of type {kind!r}; one of {', '.join(sorted(kinds))} is expected"
        )
    return kind


def _mean_cosine(vectors: Any, other: Any) -> float:
    from torch.nn.functional import cosine_similarity

    return float(cosine_similarity(vectors, other, dim=-1).mean().clamp(-1.0, 1.0))
