"""Networks as ONNX files, YAMNet's kind: a waveform in, one embedding a patch of sound out.

onnxruntime is optional (`pip install soundstage[onnx]`) and is imported by this module alone.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...config.audio import OnnxAudioConfig
from ...errors import ConfigError
from ...stages.files import sha256_file, sha256_text
from .base import AudioFeatures, FeatureGrid
from .sounds import reach_sec, rows_at_rate, shaped_as


class OnnxAudio:
    """Embedding k hears `window_sec` from `k * hop_sec` on; its time stamp is the middle of that.

    One thread and deterministic kernels: features are a function of file and sound on one kind of machine.
    """

    def __init__(self, config: OnnxAudioConfig, sample_rate: int) -> None:
        """Open the file.

        Raises:
            ConfigError: no onnxruntime, no such file, or not a network from one waveform to embeddings.
        """
        self.config = config
        self._sample_rate = sample_rate
        self._session = _session(Path(config.path))
        self._input, self._rank = _waveform_input(config, self._session.get_inputs())
        self._output = _embedding_output(config, self._session.get_outputs())
        self.grid = onnx_grid(config)
        reach = reach_sec(sample_rate, config.sample_rate)
        self.latency_sec = config.window_sec / 2 + reach
        self.receptive_field_sec = config.window_sec + 2 * reach
        self.licence = config.licence
        settings = config.model_copy(update={"path": "", "licence": ""}).canonical_json()
        self.fingerprint = f"onnx:{_weights(Path(config.path))}:{sha256_text(f'{settings} from {sample_rate} Hz')}"

    def __call__(self, waveform: torch.Tensor, start_sec: float = 0.0) -> AudioFeatures:
        """Features of `waveform` (..., samples): see `AudioEncoder`.

        Raises:
            ConfigError: the network's embeddings are not as many, or not as wide, as the configuration says.
        """
        sound = rows_at_rate(waveform, self._sample_rate, self.config.sample_rate)
        vectors = torch.from_numpy(np.stack([self._embeddings(row) for row in sound.numpy()]))
        features = shaped_as(waveform, vectors)
        return AudioFeatures(features, self.grid.times_sec(features.shape[-2], start_sec))

    def _embeddings(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        """(samples,) to (T, D); these networks take one sound at a time."""
        given = sound if self._rank == 1 else sound[None]
        found = self._session.run([self._output], {self._input: given})[0]
        embeddings = np.asarray(found, np.float32).reshape(-1, found.shape[-1])
        hop, window = self.config.hop_sec, self.config.window_sec
        duration = len(sound) / self.config.sample_rate
        # Networks differ in whether they pad the last patch; more of a difference would mean wrong times.
        least, most = math.floor(max(0.0, duration - window) / hop), math.ceil(duration / hop) + 1
        if embeddings.shape[1] != self.config.dim or not least <= len(embeddings) <= most:
            raise ConfigError(
                f"{self.config.path} made {len(embeddings)} embeddings of width {embeddings.shape[1]} from "
                f"{duration:.2f} s, expected {least}..{most} of width {self.config.dim}; correct hop_sec, window_sec "
                "and dim of this audio encoder"
            )
        return embeddings


def onnx_grid(config: OnnxAudioConfig) -> FeatureGrid:
    """As the configuration states it."""
    return FeatureGrid(config.dim, config.hop_sec, config.window_sec / 2)


def _session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            "audio encoders of type onnx need onnxruntime: pip install 'soundstage[onnx]', or the version in "
            "requirements.lock"
        ) from error
    if not path.is_file():
        raise ConfigError(f"audio encoder {path}: no such file; set `path` to an ONNX file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors share no base below Exception
        raise ConfigError(f"audio encoder {path} is no ONNX network that onnxruntime can run: {error}") from error


def _waveform_input(config: OnnxAudioConfig, inputs: list[Any]) -> tuple[str, int]:
    """Name and rank of the input that takes the waveform."""
    found = ", ".join(f"{each.name}: {each.type} {each.shape}" for each in inputs)
    if len(inputs) != 1 or config.input_name not in (None, inputs[0].name):
        raise ConfigError(f"{config.path} has inputs {found}; expected one, a waveform; input_name={config.input_name}")
    rank = len(inputs[0].shape)
    if inputs[0].type != "tensor(float)" or rank not in (1, 2):
        raise ConfigError(
            f"{config.path} takes {found}; expected a waveform, tensor(float) of shape [samples] or [1, samples]. A "
            "network that starts from mel patches or from quantised values must be exported with its front end"
        )
    return str(inputs[0].name), rank


def _embedding_output(config: OnnxAudioConfig, outputs: list[Any]) -> str:
    found = ", ".join(f"{each.name}: {each.shape}" for each in outputs)
    fitting = [each.name for each in outputs if config.output_name in (None, each.name)]
    if config.output_name is None:
        fitting = [each.name for each in outputs if each.shape and each.shape[-1] == config.dim]
    if len(fitting) != 1:
        raise ConfigError(
            f"{config.path} has outputs {found}; expected one of width dim={config.dim}, or its name in output_name "
            f"(now {config.output_name})"
        )
    return str(fitting[0])


def _weights(path: Path) -> str:
    """Hash of the file and of the weights that ONNX keeps beside large ones: `<stem>.data`, `<name>_data` and so on."""
    files = sorted(each for each in path.parent.glob(f"{path.stem}.*") if each.is_file())
    return sha256_text("\n".join(f"{each.name[len(path.stem) :]} {sha256_file(each)}" for each in files))
