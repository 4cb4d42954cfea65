"""What is learned: the backbone's own prediction of noisy latents, under first frame, caption and sound."""

from __future__ import annotations

import torch
from torch import nn

from ..config.tree import ModelConfig, TrainConfig, WindowConfig
from ..models.adapter import AudioContext
from ..models.backbones.base import Backbone
from ..models.conditioned import AudioAdapters, AudioConditionedTransformer
from ..models.windows import AudioWindows, audio_windows, frame_spans
from .feed import Batch


class DenoisingObjective(nn.Module):
    """Mean squared error of the prediction at random noise levels.

    Noise, target and timestep are the backbone's own (`models.noising`). With `motion_weight` w, an element counts
    1 + w * |clean change to the frame before| / mean change, divided by 1 + w; the backbone says where the frame before
    is, for a latent may hold several frames. A sample counts by the weight that
    selection gave its clip; these have the mean 1 over all pretraining clips. Latent frames that the network is given
    clean do not count. Frame rate and what sound belongs to which frame are those of the batch's own window, where it
    names one.
    """

    def __init__(
        self,
        backbone: Backbone,
        model: AudioConditionedTransformer,
        config: ModelConfig,
        window: WindowConfig,
        train: TrainConfig,
    ) -> None:
        super().__init__()
        self.model = model
        self._backbone, self._config, self._window, self._train = backbone, config, window, train
        self._windows: dict[tuple[WindowConfig, int], dict[str, AudioWindows]] = {}

    def forward(self, batch: Batch) -> torch.Tensor:
        """The loss, a scalar."""
        clean, sigma = batch.latents, batch.sigma
        first, noising = clean[:, :, :1], self._backbone.noising
        noisy = noising.noisy(clean, batch.noise, sigma)
        output = self.model(
            noisy, first, noising.timestep(sigma), batch.text, self.window_of(batch).fps, self.heard(batch)
        )
        learned = self._backbone.learned
        error = (learned(output) - learned(noising.target(clean, batch.noise, sigma, first))).square()
        weighted = error * learned(self._motion_weights(clean))
        if batch.weight is not None:
            weighted = weighted * batch.weight[:, None, None, None, None]
        loss: torch.Tensor = weighted.mean()
        return loss

    def window_of(self, batch: Batch) -> WindowConfig:
        """The window that the samples of `batch` are."""
        return batch.window or self._window

    def heard(self, batch: Batch) -> AudioContext | None:
        """What the samples of `batch` hear; None of a model without audio layers."""
        adapters = self.model.adapters
        if adapters is None:
            return None
        bucket = self.window_of(batch), batch.latents.shape[2]
        if bucket not in self._windows:
            self._windows[bucket] = self._windows_of(batch, adapters)
        return adapters.context(batch.audio, self._windows[bucket], batch.audio_keep)

    def _windows_of(self, batch: Batch, adapters: AudioAdapters) -> dict[str, AudioWindows]:
        """Which features of each encoder every latent frame of a batch hears, on the batch's device."""
        window, made = self.window_of(batch), {}
        spans = frame_spans(batch.latents.shape[2], window.fps, self._backbone.codec_shape.temporal_stride)
        for name, grid in adapters.grids.items():
            times = grid.times_sec(batch.audio[name].shape[1], -window.audio_margin_sec)
            heard = audio_windows(spans, times, self._config.adapter.window_sec, grid.hop_sec)
            made[name] = heard.to(batch.latents.device)
        return made

    def _motion_weights(self, clean: torch.Tensor) -> torch.Tensor:
        weight = self._train.motion_weight
        if weight == 0:
            return torch.ones((1, 1, clean.shape[2], 1, 1), dtype=clean.dtype, device=clean.device)
        change = (clean - self._backbone.previous(clean)).abs()
        mean = change.mean(dim=(1, 2, 3, 4), keepdim=True).clamp(min=1e-6)
        return (1.0 + weight * change / mean) / (1.0 + weight)
