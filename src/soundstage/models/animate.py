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
from ..media.frames import fitted_frames
from ..media.sound import cut_sound, resample
from .adapter import AudioContext
from .audio.base import AudioEncoder
from .audio.load import encode_sound, load_audio_encoders
from .backbones.base import Backbone
from .backbones.load import load_backbone
from .bundle import ENCODERS_FOLDER, load_adapter
from .conditioned import AudioConditionedTransformer
from .devices import compute_device
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
    encoders: dict[str, AudioEncoder]
    adapter_folder: Path | None = None
    """where the adapter's files lie; None: there is no adapter"""

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
            deaf = AudioConditionedTransformer(loaded, None).eval()
            return Animator(loaded, deaf, ModelConfig(), window, {}).to(compute_device())
        return Animator.over(loaded, adapter, window).to(compute_device())

    @staticmethod
    def over(backbone: Backbone, adapter: Path, window: WindowConfig | None = None) -> Animator:
        """With the adapter in a folder, over a backbone that is loaded already."""
        adapters, config, trained_window = load_adapter(adapter, backbone)
        model = AudioConditionedTransformer(backbone, adapters).eval()
        encoders = load_audio_encoders(config.audio, adapter / ENCODERS_FOLDER)
        return Animator(backbone, model, config, window or trained_window, encoders, adapter)

    @property
    def fps(self) -> int:
        """Frames a second of what is generated."""
        return self.window.fps

    def to(self, device: torch.device | str) -> Animator:
        """Move the networks to `device`; audio encoders, which are small, stay where they are. Returns itself."""
        self.model.to(device)  # the backbone's transformer is part of it
        return self

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
        text_guidance_scale: float | None = None,
    ) -> NDArray[np.uint8]:
        """One video (T, height, width, 3) from `image` (H, W, 3) and `waveform` (samples,); its start meets frame 0.

        No number of steps is `DEFAULT_STEPS`, no scale is 1, no guidance.
        """
        sound = self.window_sound(waveform, sample_rate, 0.0)
        return self.animate_batch(
            image[None],
            sound[None],
            [caption],
            seeds=[seed],
            num_inference_steps=num_inference_steps or DEFAULT_STEPS,
            guidance=guidance_of(audio_guidance_scale, text_guidance_scale),
        )[0]

    def window_sound(self, waveform: NDArray[np.float32], sample_rate: int, start_sec: float) -> NDArray[np.float32]:
        """The sound a window starting at `start_sec` hears, margins included, at the encoders' common rate."""
        margin = self.window.audio_margin_sec
        rate = self.config.audio.sample_rate
        length = float(self.window.duration_sec) + 2 * margin
        return cut_sound(resample(waveform, sample_rate, rate), rate, start_sec - margin, length)

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
        """Videos (B, T, height, width, 3) from first frames (B, H, W, 3) and `window_sound`s (B, samples).

        `sounds` None generates without the audio layers: the frozen backbone alone.
        """
        latents = self.latents_batch(
            images, sounds, captions, seeds=seeds, num_inference_steps=num_inference_steps, guidance=guidance
        )
        return self.decoded(latents)

    @torch.no_grad()
    def latents_batch(
        self,
        images: NDArray[np.uint8],
        sounds: NDArray[np.float32] | None,
        captions: Sequence[str],
        *,
        seeds: Sequence[int],
        num_inference_steps: int,
        guidance: Guidance,
    ) -> torch.Tensor:
        """As `animate_batch`, before decoding: (B, C, F, h, w), normalised as the backbone's codec has them."""
        height, width = self.window.frame_size
        latent_frames = self.backbone.check_window(self.window.num_frames, height, width)
        device = self._device
        first = self.backbone.codec.encode(torch.from_numpy(fitted_frames(images, height, width))[:, None])
        return sample_latents(
            self.model,
            self.backbone,
            first.to(device),
            self.backbone.text.encode(list(captions)).to(device),
            self.backbone.text.encode([""]).to(device),
            self._heard(sounds, latent_frames),
            num_latent_frames=latent_frames,
            fps=self.window.fps,
            seeds=seeds,
            num_inference_steps=num_inference_steps,
            guidance=guidance,
        )

    def decoded(self, latents: torch.Tensor) -> NDArray[np.uint8]:
        """Videos (B, T, height, width, 3) of latents (B, C, F, h, w)."""
        return np.asarray(self.backbone.codec.decode(latents.cpu()).numpy())

    @property
    def _device(self) -> torch.device:
        return next(self.backbone.transformer.parameters()).device

    def _heard(self, sounds: NDArray[np.float32] | None, latent_frames: int) -> AudioContext | None:
        """The audio context of `window_sound`s (B, samples)."""
        adapters = self.model.adapters
        if sounds is None or adapters is None:
            return None
        start = -self.window.audio_margin_sec
        features = encode_sound(self.encoders, torch.from_numpy(sounds), start)
        spans = frame_spans(latent_frames, self.window.fps, self.backbone.codec_shape.temporal_stride)
        windows = {
            name: audio_windows(spans, heard.times_sec, self.config.adapter.window_sec, adapters.grids[name].hop_sec)
            for name, heard in features.items()
        }
        device = self._device
        placed = {name: heard.features.to(device) for name, heard in features.items()}
        return adapters.context(
            placed,
            {name: window.to(device) for name, window in windows.items()},
            torch.ones(len(sounds), device=device),
        )


def guidance_of(audio: float | None, text: float | None) -> Guidance:
    """Scales as a user gives them; none is 1."""
    return Guidance(audio=1.0 if audio is None else audio, text=1.0 if text is None else text)
