"""ONNX encoders: which networks are taken, and which are refused with what to change."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
import torch

from soundstage.config.audio import OnnxAudioConfig
from soundstage.errors import ConfigError
from soundstage.models.audio.onnx import OnnxAudio

from .makers import save_onnx

RATE = 16000


@pytest.fixture
def config(tmp_path: Path) -> OnnxAudioConfig:
    save_onnx(tmp_path / "tiny.onnx")
    return OnnxAudioConfig(path=str(tmp_path / "tiny.onnx"), dim=12)


def test_rows_and_plain_waveforms_are_both_taken(tmp_path: Path, config: OnnxAudioConfig) -> None:
    save_onnx(tmp_path / "row.onnx", rank=2)
    row = config.model_copy(update={"path": str(tmp_path / "row.onnx"), "input_name": "waveform"})
    sound = torch.randn(2, 2 * RATE, generator=torch.Generator().manual_seed(0))
    features = OnnxAudio(row, RATE)(sound).features
    assert features.shape == (2, 3, 12)
    assert torch.equal(features, OnnxAudio(config, RATE)(sound).features)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 13}, r"outputs scores: \['patches', 1\], embeddings: .*expected one of width dim=13"),
        ({"output_name": "logits"}, r"its name in output_name \(now logits\)"),
        ({"input_name": "sound"}, r"inputs waveform: tensor\(float\) \['samples'\]; expected one.*input_name=sound"),
        ({"path": "none.onnx"}, "none.onnx: no such file"),
    ],
    ids=["width", "output", "input", "path"],
)
def test_what_does_not_fit_is_refused(config: OnnxAudioConfig, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OnnxAudio(config.model_copy(update=change), RATE)


@pytest.mark.parametrize("change", [{"hop_sec": 0.1}, {"hop_sec": 2.0}, {"output_name": "scores"}])
def test_wrong_times_or_widths_are_found_when_it_speaks(config: OnnxAudioConfig, change: dict[str, Any]) -> None:
    encoder = OnnxAudio(config.model_copy(update=change), RATE)
    with pytest.raises(ConfigError, match=r"made 9 embeddings of width .* correct hop_sec, window_sec and dim"):
        encoder(torch.zeros(5 * RATE))


def test_a_file_that_is_no_network_is_refused(config: OnnxAudioConfig) -> None:
    Path(config.path).write_bytes(b"\x08nothing")
    with pytest.raises(ConfigError, match="is no ONNX network that onnxruntime can run"):
        OnnxAudio(config, RATE)


def test_weights_beside_the_file_count(config: OnnxAudioConfig) -> None:
    before = OnnxAudio(config, RATE).fingerprint
    beside = Path(config.path).with_suffix(".data")
    beside.write_bytes(b"one")
    first = OnnxAudio(config, RATE).fingerprint
    beside.write_bytes(b"two")
    assert len({before, first, OnnxAudio(config, RATE).fingerprint}) == 3


def test_without_the_library_it_says_what_to_install(config: OnnxAudioConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ConfigError, match=r"pip install 'soundstage\[onnx\]'"):
        OnnxAudio(config, RATE)
