"""Families of pretrained audio networks: where the tokens of each lie in time, and how they come out of it.

All but the waveform networks hear a fixed length of sound, padded by their own feature extractor. Two of those paddings
are not taken over: CLAP's repeats short sounds, which would put events where there are none, and random crops of long
ones would lose their times; longer sounds are heard in segments instead (see `pretrained.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

Sounds = list[NDArray[np.float32]]
"""mono sounds of one length at the network's rate"""


@dataclass(frozen=True)
class Timing:
    """Tokens in time, counted in audio samples of the network's rate; token k is centred on `first + k * hop`."""

    sample_rate: int
    hop: float
    first: float
    least: int
    """shortest sound that holds a token"""
    segment: int | None = None
    """longest sound heard at once; None: any"""
    step: int = 0
    """tokens from one segment to the next: those that lie wholly inside"""


class Family(Protocol):
    """What differs between families; classes are `transformers`' names."""

    models: dict[str, str]
    """class to load by the checkpoint's `model_type`"""
    extractor: str

    def timing(self, network: Any, extractor: Any) -> Timing:
        """By the configuration of the network and its feature extractor; ValueError where the two disagree."""

    def width(self, network: Any) -> int:
        """Width of a hidden state."""

    def layers(self, network: Any) -> range:
        """Hidden states that can be asked for; the highest is the last, with the network's closing norm."""

    def encoder(self, model: Any) -> Any:
        """The part of the loaded model that hears."""

    def hidden_states(self, model: Any, extractor: Any, sounds: Sounds) -> Sequence[torch.Tensor]:
        """(N, tokens, width) for each hidden state from 0 on; those that cannot be asked for may have another shape."""


class SpectrogramTransformer:
    """AST (Gong et al., "AST: Audio Spectrogram Transformer", Interspeech 2021): patches averaged over frequency.

    Frames are Kaldi's: 25 ms every 10 ms, the first one starting with the sound.
    """

    models = {"audio-spectrogram-transformer": "ASTModel"}  # noqa: RUF012 - a table, as Protocol asks
    extractor = "ASTFeatureExtractor"

    def timing(self, network: Any, extractor: Any) -> Timing:
        """See `Family`."""
        _agree("mel frames", extractor.max_length, network.max_length)
        _agree("mel bands", extractor.num_mel_bins, network.num_mel_bins)
        rate = extractor.sampling_rate
        frame, shift = int(rate * 0.025), int(rate * 0.010)
        first = ((network.patch_size - 1) * shift + frame - 1) / 2
        return Timing(
            sample_rate=rate,
            hop=network.time_stride * shift,
            first=first,
            least=math.floor(first) + 1,
            segment=(network.max_length - 1) * shift + frame,
            step=(network.max_length - network.patch_size) // network.time_stride + 1,
        )

    def width(self, network: Any) -> int:
        """See `Family`."""
        return int(network.hidden_size)

    def layers(self, network: Any) -> range:
        """See `Family`."""
        return range(network.num_hidden_layers + 1)

    def encoder(self, model: Any) -> Any:
        """See `Family`."""
        return model

    def hidden_states(self, model: Any, extractor: Any, sounds: Sounds) -> Sequence[torch.Tensor]:
        """See `Family`."""
        inputs = extractor(sounds, sampling_rate=extractor.sampling_rate, return_tensors="pt")
        out = model(inputs.input_values, output_hidden_states=True)
        bands = (model.config.num_mel_bins - model.config.patch_size) // model.config.frequency_stride + 1
        # Two tokens of class and distillation come first; patches follow band by band.
        return [state[:, 2:].unflatten(1, (bands, -1)).mean(1) for state in _with_last(out)]


class Clap:
    """CLAP's audio tower, HTS-AT (Chen et al., "HTS-AT", ICASSP 2022; Wu et al., ICASSP 2023): its last grid.

    The tower stretches F mel frames over W columns, folds them into an image and halves it from stage to stage. Widths
    and time steps of the stages differ; offered are the last stage and what enters it, which share both, averaged over
    frequency. A fused model hears its global view alone, as it does for sounds no longer than its own length.
    """

    models = {"clap": "ClapModel", "clap_audio_model": "ClapAudioModel"}  # noqa: RUF012
    extractor = "ClapFeatureExtractor"

    def timing(self, network: Any, extractor: Any) -> Timing:
        """See `Family`."""
        audio = _clap_audio(network)
        _agree("mel bands", extractor.feature_size, audio.num_mel_bins)
        frames = extractor.nb_max_samples // extractor.hop_length + 1
        columns = audio.spec_size * (audio.spec_size // audio.num_mel_bins)
        if frames > columns:
            raise ValueError(f"the feature extractor gives {frames} mel frames, the network takes at most {columns}")
        # Bicubic with aligned corners: column c stands for frame c (F - 1) / (W - 1).
        column = (frames - 1) / (columns - 1) * extractor.hop_length
        stride = audio.patch_stride if isinstance(audio.patch_stride, int) else audio.patch_stride[1]
        token = stride * 2 ** (len(audio.depths) - 1)
        first = (token - 1) / 2 * column
        return Timing(
            sample_rate=extractor.sampling_rate,
            hop=token * column,
            first=first,
            least=math.floor(first) + 1,
            segment=extractor.nb_max_samples,
            step=math.floor(extractor.nb_max_samples / (token * column)),
        )

    def width(self, network: Any) -> int:
        """See `Family`."""
        audio = _clap_audio(network)
        return int(audio.patch_embeds_hidden_size * 2 ** (len(audio.depths) - 1))

    def layers(self, network: Any) -> range:
        """See `Family`."""
        last = len(_clap_audio(network).depths)
        return range(last - 1, last + 1)

    def encoder(self, model: Any) -> Any:
        """See `Family`."""
        audio = getattr(model, "audio_model", model)
        # Counters of training batches change nothing that is heard; without them only weights are fingerprinted.
        for module in audio.modules():
            if isinstance(module, torch.nn.modules.batchnorm._NormBase):
                module.num_batches_tracked = None
        return audio

    def hidden_states(self, model: Any, extractor: Any, sounds: Sounds) -> Sequence[torch.Tensor]:
        """See `Family`."""
        encoder = model.audio_encoder
        truncation = "fusion" if encoder.enable_fusion else "rand_trunc"
        # For fused models the extractor draws one sound to call long, from NumPy's global generator. None is.
        state = np.random.get_state()
        inputs = extractor(
            sounds,
            truncation=truncation,
            padding="pad",
            sampling_rate=extractor.sampling_rate,
            return_tensors="pt",
        )
        np.random.set_state(state)
        is_longer = torch.zeros(len(sounds), 1, dtype=torch.bool)
        out = model(inputs.input_features.float(), is_longer=is_longer, output_hidden_states=True)
        # last_hidden_state is (N, C, bands, tokens) already; the others are folded images, chunk above chunk.
        entering = out.hidden_states[-2].unflatten(2, (encoder.freq_ratio, -1)).mean(3).flatten(2)
        return [*out.hidden_states[:-2], entering.transpose(1, 2), out.last_hidden_state.mean(2).transpose(1, 2)]


class WaveformTransformer:
    """Wav2Vec 2.0 and HuBERT (Baevski et al., NeurIPS 2020; Hsu et al., TASLP 2021): strided convolutions on samples.

    They normalise and attend over all the sound that is given, of any length.
    """

    extractor = "Wav2Vec2FeatureExtractor"

    def __init__(self, model_type: str, model: str) -> None:
        self.models = {model_type: model}

    def timing(self, network: Any, extractor: Any) -> Timing:
        """See `Family`."""
        if getattr(network, "add_adapter", False):
            raise ValueError("the network ends in an adapter that changes its time step; take one without")
        hop, window = 1, 1
        for kernel, stride in zip(network.conv_kernel, network.conv_stride, strict=True):
            window += (kernel - 1) * hop
            hop *= stride
        return Timing(sample_rate=extractor.sampling_rate, hop=hop, first=(window - 1) / 2, least=window)

    def width(self, network: Any) -> int:
        """See `Family`."""
        return int(network.hidden_size)

    def layers(self, network: Any) -> range:
        """See `Family`."""
        return range(network.num_hidden_layers + 1)

    def encoder(self, model: Any) -> Any:
        """See `Family`."""
        return model

    def hidden_states(self, model: Any, extractor: Any, sounds: Sounds) -> Sequence[torch.Tensor]:
        """See `Family`."""
        inputs = extractor(sounds, sampling_rate=extractor.sampling_rate, return_tensors="pt")
        return _with_last(model(inputs.input_values, output_hidden_states=True))


class Whisper:
    """Whisper's encoder (Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", ICML 2023).

    Mel frames are centred on multiples of their hop, and so are the positions of its strided convolutions.
    """

    models = {"whisper": "WhisperModel"}  # noqa: RUF012
    extractor = "WhisperFeatureExtractor"
    _STRIDE = 2

    def timing(self, network: Any, extractor: Any) -> Timing:
        """See `Family`."""
        _agree("mel frames", extractor.nb_max_frames, self._STRIDE * network.max_source_positions)
        _agree("mel bands", extractor.feature_size, network.num_mel_bins)
        return Timing(
            sample_rate=extractor.sampling_rate,
            hop=self._STRIDE * extractor.hop_length,
            first=0.0,
            least=1,
            segment=extractor.n_samples,
            step=network.max_source_positions,
        )

    def width(self, network: Any) -> int:
        """See `Family`."""
        return int(network.d_model)

    def layers(self, network: Any) -> range:
        """See `Family`."""
        return range(network.encoder_layers + 1)

    def encoder(self, model: Any) -> Any:
        """See `Family`."""
        return model.encoder

    def hidden_states(self, model: Any, extractor: Any, sounds: Sounds) -> Sequence[torch.Tensor]:
        """See `Family`."""
        inputs = extractor(sounds, sampling_rate=extractor.sampling_rate, return_tensors="pt")
        return _with_last(model(inputs.input_features, output_hidden_states=True))


FAMILIES: dict[str, Family] = {
    "ast": SpectrogramTransformer(),
    "clap": Clap(),
    "wav2vec2": WaveformTransformer("wav2vec2", "Wav2Vec2Model"),
    "hubert": WaveformTransformer("hubert", "HubertModel"),
    "whisper": Whisper(),
}


def _with_last(out: Any) -> list[torch.Tensor]:
    return [*out.hidden_states[:-1], out.last_hidden_state]


def _clap_audio(network: Any) -> Any:
    return network.audio_config if network.model_type == "clap" else network


def _agree(what: str, extractor: int, network: int) -> None:
    if extractor != network:
        raise ValueError(f"the feature extractor gives {extractor} {what}, the network takes {network}")
