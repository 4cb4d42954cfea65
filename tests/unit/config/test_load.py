"""From preset, file and overrides to one tree; every refusal says what to write instead."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from soundstage.config import SoundstageConfig, load_config, parse, preset_names
from soundstage.config.base import Config
from soundstage.config.tree import AdapterConfig
from soundstage.errors import ConfigError
from soundstage.training.job import TrainingJob


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_keeps_the_budget_rule(name: str) -> None:
    config = load_config(name)
    assert config.preset == name
    assert config.model.adapter.max_share <= 0.019
    assert parse(SoundstageConfig, config.model_dump(mode="json"), "itself") == config


def test_the_later_wins(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("preset: micro\npretrain: {steps: 7, seed: 3}\n")
    config = load_config(file=file, overrides=["pretrain.steps=9", "model.adapter.window_sec=.inf"])
    micro = load_config("micro")
    assert config.preset == "micro"
    assert (config.pretrain.steps, config.pretrain.seed) == (9, 3)
    assert config.pretrain.global_batch == micro.pretrain.global_batch != load_config("tiny").pretrain.global_batch
    assert config.model.adapter.window_sec == math.inf
    assert config.model.adapter.inner_dim == micro.model.adapter.inner_dim
    assert load_config("tiny", file).preset == "tiny"


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("ingest.source=synth:", "ingest.source", "synth:"),
        ("ingest.source=videos: mine", "ingest.source", "videos: mine"),
        ("pretrain.learning_rate=1e-4", "pretrain.learning_rate", 1e-4),
        ("encode.flip=false", "encode.flip", False),
        ("split.open_classes=[lamp, bird]", "split.open_classes", ("lamp", "bird")),
        ("tracking.uri=null", "tracking.uri", None),
        ("pretrain={steps: 3}", "pretrain.steps", 3),
    ],
)
def test_an_override_is_read_as_its_field(override: str, path: str, value: object) -> None:
    found: object = load_config("micro", overrides=[override])
    for part in path.split("."):
        found = getattr(found, part)
    assert found == value


REFUSED = {
    "unknown key": ("pretrain.stepps=3", r"pretrain\.stepps: unknown key; did you mean steps\?"),
    "unknown room": ("modle.adapter.heads=3", r"modle: unknown key; did you mean model\?"),
    "nothing near": (
        "launcher.zzz=3",
        r"launcher\.zzz: unknown key; known here: kind, ranks, threads, hang_sec, grace_sec, trainjob",
    ),
    "out of range": ("pretrain.steps=0", r"pretrain\.steps: .*greater than or equal to 1 \(found 0\)"),
    "wrong type": ("pretrain.steps=many", r"pretrain\.steps: .*integer.*\(found 'many'\)"),
    "a rule over fields": ("model.adapter.heads=3", r"inner_dim=\d+ is not divisible by adapter\.heads=3"),
    "negative window": ("model.adapter.window_sec=-1", r"window_sec: .*greater than or equal to 0"),
    "shares": ("split.test=0.99", "leave some for pretraining"),
    "no value": ("pretrain.steps", r"is not of the form a\.b=value"),
    "broken YAML": ("split.open_classes=[a", "the value is not valid YAML"),
    "a preset, too late": ("preset=tiny", "--preset"),
}


@pytest.mark.parametrize(("override", "message"), REFUSED.values(), ids=REFUSED)
def test_an_unusable_override_is_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("micro", overrides=[override])


FILES = {
    "a list": ("- 1", "must hold a mapping of keys, found list"),
    "broken": ("a: [", "is not valid YAML"),
    "unknown preset": ("preset: tinny", "did you mean tiny"),
    "a number for a preset": ("preset: 5", "preset '5' does not exist; presets: cogvideox-2b, .*micro, tiny"),
}


@pytest.mark.parametrize(("text", "message"), FILES.values(), ids=FILES)
def test_an_unusable_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(file=tmp_path / "mine.yaml")
    with pytest.raises(ConfigError, match=r"absent\.yaml cannot be read: No such file"):
        load_config(file=tmp_path / "absent.yaml")


def test_canonical_text_is_one_for_equal_configs_and_comes_back() -> None:
    config = load_config("tiny", overrides=["model.adapter.window_sec=.inf"])
    text = config.canonical_json()
    again = SoundstageConfig.model_validate_json(text)
    assert again == config
    assert again.canonical_json() == text
    assert "Infinity" not in text
    assert load_config("tiny").canonical_json() != text


def test_a_job_file_keeps_an_infinite_window(tmp_path: Path) -> None:
    config = load_config("micro", overrides=["model.adapter.window_sec=.inf"])
    from soundstage.config import stage_slice

    job = TrainingJob.model_validate(
        {
            "stage": "pretrain",
            "config": stage_slice("pretrain", config),
            "shards": tmp_path,
            "use": "pretrain",
            "backbone": None,
            "initial_adapter": None,
            "out": tmp_path,
            "scratch": tmp_path,
        }
    )
    job.save(tmp_path / "job.json")
    assert TrainingJob.load(tmp_path / "job.json") == job


def test_a_config_is_frozen() -> None:
    config: Config = AdapterConfig()
    with pytest.raises(ValueError, match="frozen"):
        config.heads = 2  # type: ignore[attr-defined]
