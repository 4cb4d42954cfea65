"""Speech by Silero VAD: the network of the `silero-vad` package, computed for a whole clip at once with numpy.

The package's own loop calls its network once for every 32 ms, and importing it sets the thread count of the whole
process. The network is small (309 thousand parameters): the same arithmetic as matrix products over all windows of a
clip is some ten times faster, and only the weights are taken from the package.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from ...errors import DataError

SPEECH_RATE = 16000
"""audio samples a second that the network was trained on"""
_WINDOW, _CONTEXT = 512, 64
_FFT, _HOP = 256, 128
_MIN_PROBABILITY = 0.5
_STRIDES = (1, 2, 2, 1)
_NAMES = {
    "stft": "stft.forward_basis_buffer",
    **{f"conv{i}_weight": f"encoder.{i}.reparam_conv.weight" for i in range(len(_STRIDES))},
    **{f"conv{i}_bias": f"encoder.{i}.reparam_conv.bias" for i in range(len(_STRIDES))},
    **{name: f"decoder.rnn.{name}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")},
    "out_weight": "decoder.decoder.2.weight",
    "out_bias": "decoder.decoder.2.bias",
}

Weights = dict[str, NDArray[np.float32]]


def speech_share(waveform: NDArray[np.float32], sample_rate: int) -> float:
    """Share of windows of 32 ms that hold speech (probability of Silero VAD at least 0.5), 0..1.

    `waveform` is (samples,) mono at 16000 Hz or any other rate, which is resampled. No sound at all is 0. Singing is
    mostly not found, a voice under loud music or in a crowd is missed, and a bark or a bird may count for a window or
    two. A voice-over and a person who is seen to talk count alike.
    """
    if not len(waveform):
        return 0.0
    if sample_rate != SPEECH_RATE:
        # Imports torch, which clips at the rate that ingestion writes by default do not need.
        from ...media.sound import resample

        waveform = resample(waveform, sample_rate, SPEECH_RATE)
    return float(np.mean(speech_probabilities(waveform) >= _MIN_PROBABILITY))


def speech_probabilities(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probability of speech in each window of 512 samples of (samples,) at 16000 Hz: (ceil(samples / 512),).

    The network of Silero VAD 6 at 16 kHz: magnitude of a short-time Fourier transform, four convolutions, an LSTM that
    runs on from window to window, a linear layer. The last window is padded with zeros.

    Raises:
        DataError: the `silero-vad` package or its weights are missing.
    """
    weights = _weights()
    hidden = _encode(_windows(np.asarray(waveform, dtype=np.float32)), weights)
    states = _lstm(hidden, weights)
    logits = np.maximum(states, 0.0) @ weights["out_weight"][0, :, 0] + weights["out_bias"][0]
    return np.asarray(expit(logits), dtype=np.float32)


@lru_cache(maxsize=1)
def _weights() -> Weights:
    import torch

    # Found, not imported: see the head of this module.
    package = find_spec("silero_vad")
    path = Path(package.origin).parent / "data" / "silero_vad.jit" if package and package.origin else None
    if path is None or not path.is_file():
        raise DataError(
            "score.speech=true needs the silero-vad package and its silero_vad.jit, which are not there; "
            "install the versions in requirements.lock, or set score.speech=false"
        )
    with warnings.catch_warnings():
        # The package's file is of a kind that torch will give up: the pinned versions still go together.
        warnings.simplefilter("ignore", FutureWarning)
        # The archive holds a network for 16 kHz, `_model`, and one for 8 kHz.
        state = torch.jit.load(str(path), map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
    return {name: state[f"_model.{theirs}"].numpy() for name, theirs in _NAMES.items()}


def _windows(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """(windows, 640): 64 samples of context, 512 of the window, and 64 mirrored at its end."""
    count = -(-len(waveform) // _WINDOW)
    padded = np.zeros(_CONTEXT + count * _WINDOW, np.float32)
    padded[_CONTEXT : _CONTEXT + len(waveform)] = waveform
    windows = np.lib.stride_tricks.sliding_window_view(padded, _CONTEXT + _WINDOW)[::_WINDOW]
    return np.pad(windows, ((0, 0), (0, _CONTEXT)), mode="reflect")


def _encode(windows: NDArray[np.float32], weights: Weights) -> NDArray[np.float32]:
    """Features (windows, 128) of (windows, 640)."""
    slices = np.lib.stride_tricks.sliding_window_view(windows, _FFT, axis=1)[:, ::_HOP]
    spectrum = slices @ weights["stft"][:, 0].T
    bins = _FFT // 2 + 1
    x = np.sqrt(spectrum[..., :bins] ** 2 + spectrum[..., bins:] ** 2)
    for layer, stride in enumerate(_STRIDES):
        x = _convolve(x, weights[f"conv{layer}_weight"], weights[f"conv{layer}_bias"], stride)
    return x[:, 0]


def _convolve(
    x: NDArray[np.float32], weight: NDArray[np.float32], bias: NDArray[np.float32], stride: int
) -> NDArray[np.float32]:
    """A convolution of width 3 over time, padded by one, then ReLU: (n, time, in) to (n, time', out)."""
    padded = np.pad(x, ((0, 0), (1, 1), (0, 0)))
    steps = range(0, x.shape[1], stride)
    # The three taps side by side make one product of it.
    taps = np.stack([padded[:, step : step + 3].reshape(len(x), -1) for step in steps], axis=1)
    return np.asarray(np.maximum(taps @ weight.transpose(2, 1, 0).reshape(-1, weight.shape[0]) + bias, 0.0))


def _lstm(inputs: NDArray[np.float32], weights: Weights) -> NDArray[np.float32]:
    """Hidden states (windows, 128) of an LSTM over (windows, 128); gates in the order input, forget, cell, output."""
    driven = inputs @ weights["weight_ih"].T + weights["bias_ih"] + weights["bias_hh"]
    recurrent = weights["weight_hh"]
    size = recurrent.shape[1]
    state, cell = np.zeros(size, np.float32), np.zeros(size, np.float32)
    states = np.empty((len(inputs), size), np.float32)
    for step, drive in enumerate(driven):
        gates = recurrent @ state + drive
        opened = expit(gates)
        cell = opened[size : 2 * size] * cell + opened[:size] * np.tanh(gates[2 * size : 3 * size])
        state = opened[3 * size :] * np.tanh(cell)
        states[step] = state
    return states
