"""Animate an image with a sound: what the command line, the evaluation and the served model share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..config.tree import ModelConfig, WindowConfig
from ..errors import ConfigError
from ..media.frames import square_frames
from ..media.sound import cut_sound, resample
from .audio.mel import LogMelOnset
from .backbones.base import Backbone
from .backbones.load import load_backbone
from .bundle import load_adapter
from .conditioned import AudioConditionedTransformer
from .sampling import Guidance, sample_latents
from .windows import audio_windows, frame_spans

DEFAULT_STEPS = 8


@dataclass
class Animator:
    """A backbone with an adapter (None: the backbone alone, deaf) and the window it generates."""

    backbone: Backbone
    model: AudioConditionedTransformer
    config: ModelConfig
    window: WindowConfig

    @staticmethod
    def load(backbone: Path, adapter: Path | None, window: WindowConfig | None = None) -> Animator:
        """Load from the folders that training wrote; without an adapter, `window` says what to generate.

        Raises:
            ConfigError: folders that do not belong together, or neither adapter nor window.
        """
        loaded = load_backbone(backbone)
        if adapter is None:
            if window is None:
                raise ConfigError(f"backbone {backbone} without an adapter says nothing of a window; give one")
            model = AudioConditionedTransformer(loaded.transformer, loaded.blocks, None)
            return Animator(loaded, model.eval(), ModelConfig(), window)
        adapters, config, trained_window = load_adapter(adapter, loaded)
        model = AudioConditionedTransformer(loaded.transformer, loaded.blocks, adapters)
        return Animator(loaded, model.eval(), config, window or trained_window)

    @property
    def fps(self) -> int:
        """Frames a second of what is generated."""
        return self.window.fps

    def animate(
        self,
        image: NDArray[np.uint8],
        waveform: NDArray[np.float32],
        sample_rate: int,
        caption: str,
        *,
        seed: int = 0,
        num_inference_steps: int | None = None,
        audio_guidance_scale: float | None = None,
    ) -> NDArray[np.uint8]:
        """One video (T, size, size, 3) from `image` (H, W, 3) and `waveform` (samples,), whose start meets frame 0."""
        sound = self.window_sound(waveform, sample_rate, 0.0)
        return self.animate_batch(
            image[None],
            sound[None],
            [caption],
            seeds=[seed],
            num_inference_steps=num_inference_steps or DEFAULT_STEPS,
            guidance=Guidance(audio=1.0 if audio_guidance_scale is None else audio_guidance_scale),
        )[0]

    def window_sound(self, waveform: NDArray[np.float32], sample_rate: int, start_sec: float) -> NDArray[np.float32]:
        """The sound a window starting at `start_sec` hears, margins included, at the features' rate."""
        margin = self.window.audio_margin_sec
        rate = self.config.audio.sample_rate
        length = float(self.window.duration_sec) + 2 * margin
        return cut_sound(resample(waveform, sample_rate, rate), rate, start_sec - margin, length)

    @torch.no_grad()
    def animate_batch(
        self,
        images: NDArray[np.uint8],
        sounds: NDArray[np.float32] | None,
        captions: Sequence[str],
        *,
        seeds: Sequence[int],
        num_inference_steps: int,
        guidance: Guidance,
    ) -> NDArray[np.uint8]:
        """Videos (B, T, size, size, 3) from first frames (B, H, W, 3) and `window_sound`s (B, samples).

        `sounds` None generates without the audio layers: the frozen backbone alone.
        """
        first = self.backbone.codec.encode(torch.from_numpy(square_frames(images, self.window.size))[:, None])
        stride = self.backbone.codec.temporal_stride
        num_latent_frames = (self.window.num_frames - 1) // stride + 1
        audio = None
        if sounds is not None and self.model.adapters is not None:
            features = LogMelOnset(self.config.audio)(torch.from_numpy(sounds), -self.window.audio_margin_sec)
            spans = frame_spans(num_latent_frames, self.window.fps, stride)
            windows = audio_windows(spans, features.times_sec, self.config.adapter.window_sec)
            audio = self.model.adapters.context(features.features, windows, torch.ones(len(sounds)))
        text = self.backbone.text.encode(list(captions))
        latents = sample_latents(
            self.model,
            self.backbone,
            first,
            text,
            self.backbone.text.encode([""]),
            audio,
            num_latent_frames=num_latent_frames,
            seeds=seeds,
            num_inference_steps=num_inference_steps,
            guidance=guidance,
        )
        return np.asarray(self.backbone.codec.decode(latents).numpy())
