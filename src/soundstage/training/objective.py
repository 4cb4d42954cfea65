"""What is learned: the backbone's own prediction of noisy latents, under first frame, caption and sound."""

from __future__ import annotations

import torch
from torch import nn

from ..config.tree import ModelConfig, TrainConfig, WindowConfig
from ..models.adapter import AudioContext
from ..models.backbones.base import Backbone
from ..models.conditioned import AudioConditionedTransformer
from ..models.windows import AudioWindows, audio_windows, frame_spans
from .feed import Batch

NUM_TRAIN_TIMESTEPS = 1000


class DenoisingObjective(nn.Module):
    """Mean squared error of the prediction at random noise levels.

    `noisy = (1 - sigma) clean + sigma noise`; the target is the backbone's (velocity: Lipman et al., "Flow Matching for
    Generative Modeling", 2023; clean residual: clean latents minus the first). With `motion_weight` w, an element
    counts 1 + w * |clean change to the frame before| / mean change, divided by 1 + w. A sample counts by the
    weight that selection gave its clip; these have the mean 1 over all pretraining clips.
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
        self._windows: AudioWindows | None = None

    def forward(self, batch: Batch) -> torch.Tensor:
        """The loss, a scalar."""
        clean, sigma = batch.latents, batch.sigma[:, None, None, None, None]
        first = clean[:, :, :1]
        noisy = (1.0 - sigma) * clean + sigma * batch.noise
        output = self.model(
            self._backbone.model_input(noisy, first),
            batch.sigma * NUM_TRAIN_TIMESTEPS,
            batch.text,
            self._audio(batch),
        )
        error = (output.float() - self._backbone.target(clean, batch.noise, first)).square()
        weighted = error * self._motion_weights(clean)
        if batch.weight is not None:
            weighted = weighted * batch.weight[:, None, None, None, None]
        loss: torch.Tensor = weighted.mean()
        return loss

    def _audio(self, batch: Batch) -> AudioContext | None:
        adapters = self.model.adapters
        if adapters is None:
            return None
        if self._windows is None:
            hop = self._config.audio.hop_length / self._config.audio.sample_rate
            times = torch.arange(batch.audio.shape[1], dtype=torch.float32) * hop - self._window.audio_margin_sec
            stride = self._backbone.codec.temporal_stride
            spans = frame_spans(batch.latents.shape[2], self._window.fps, stride)
            device = batch.audio.device
            self._windows = audio_windows(spans.to(device), times.to(device), self._config.adapter.window_sec)
        return adapters.context(batch.audio, self._windows, batch.audio_keep)

    def _motion_weights(self, clean: torch.Tensor) -> torch.Tensor:
        weight = self._train.motion_weight
        if weight == 0:
            return torch.ones((), dtype=clean.dtype)
        change = torch.diff(clean, dim=2, prepend=clean[:, :, :1]).abs()
        mean = change.mean(dim=(1, 2, 3, 4), keepdim=True).clamp(min=1e-6)
        return (1.0 + weight * change / mean) / (1.0 + weight)
