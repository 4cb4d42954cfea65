"""Adapters on disk: every bit comes back, onto the backbone they were made for and no other."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from soundstage.errors import ConfigError
from soundstage.models.bundle import describe_adapter, load_adapter, new_adapters, save_adapter
from soundstage.models.conditioned import parameter_count

from .makers import WINDOW, backbone, make_heard, model_config


@pytest.mark.parametrize("window_sec", [0.25, math.inf])
def test_an_adapter_comes_back_whole(tmp_path: Path, window_sec: float) -> None:
    config = model_config(window_sec=window_sec)
    made = backbone(config)
    adapters = new_adapters(made, config)
    make_heard(adapters)
    save_adapter(tmp_path, adapters, made, config, WINDOW, "pretrain")
    loaded, loaded_config, window = load_adapter(tmp_path, made)
    assert (loaded_config, window) == (config, WINDOW)
    wanted = adapters.state_dict()
    assert loaded.state_dict().keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in loaded.state_dict().items())
    about = describe_adapter(tmp_path)
    assert about["trainable_share"] == parameter_count(adapters) / parameter_count(made.transformer)
    assert "stand-in" in (tmp_path / "README.md").read_text()


def test_another_backbone_is_refused(tmp_path: Path) -> None:
    config = model_config()
    made = backbone(config)
    save_adapter(tmp_path, new_adapters(made, config), made, config, WINDOW, "pretrain")
    stranger = backbone(config, seed=1)
    with pytest.raises(ConfigError, match=f"{made.fingerprint[:16]}, this one is {stranger.fingerprint[:16]}"):
        load_adapter(tmp_path, stranger)
    # Equal weights of another meaning are another backbone.
    other = backbone(
        config.model_copy(update={"backbone": config.backbone.model_copy(update={"prediction": "clean_residual"})})
    )
    with pytest.raises(ConfigError, match="load it onto its own backbone"):
        load_adapter(tmp_path, other)


def test_a_budget_is_kept_at_creation() -> None:
    config = model_config(max_share=0.001)
    with pytest.raises(ConfigError, match=r"allowed are 0\.10%"):
        new_adapters(backbone(config), config)


def test_a_folder_without_an_adapter_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no adapter \(no adapter\.json\)"):
        describe_adapter(tmp_path)


def test_the_description_is_strict_json(tmp_path: Path) -> None:
    config = model_config(window_sec=math.inf)
    made = backbone(config)
    save_adapter(tmp_path, new_adapters(made, config), made, config, WINDOW, "pretrain")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    json.loads((tmp_path / "adapter.json").read_text(), parse_constant=refuse)
