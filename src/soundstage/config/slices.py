"""What each stage sees of the tree: its slice is its cache key, so it holds all that matters and nothing else."""

from __future__ import annotations

from pydantic import Field

from .base import HOW, Config
from .tree import (
    AdapterConfig,
    ContractsConfig,
    EncodeConfig,
    EvaluateConfig,
    IngestConfig,
    LauncherConfig,
    ModelConfig,
    PromoteConfig,
    RegistryConfig,
    ReviewConfig,
    ScoreConfig,
    ScorerConfig,
    SelectConfig,
    SoundstageConfig,
    SplitConfig,
    SynthConfig,
    TrackingConfig,
    TrainConfig,
    WindowConfig,
)


class SynthSlice(Config):
    """Read by `synth`."""

    synth: SynthConfig


class IngestSlice(Config):
    """Read by `ingest`; `synth` matters only for the source `synth:` and is None otherwise."""

    ingest: IngestConfig
    synth: SynthConfig | None


class SplitSlice(Config):
    """Read by `split`."""

    split: SplitConfig


class ValidateSlice(Config):
    """Read by `validate`."""

    contracts: ContractsConfig


class ScorerSlice(Config):
    """Read by `curator` and `judge`."""

    scorer: ScorerConfig


class ScoreSlice(Config):
    """Read by `score`."""

    score: ScoreConfig


class ReviewSlice(Config):
    """Read by `review`; nobody is asked about clips that selection drops on technical grounds."""

    review: ReviewConfig
    select: SelectConfig
    window: WindowConfig


class SelectSlice(Config):
    """Read by `select`; the window's length matters because clips must hold one."""

    select: SelectConfig
    window: WindowConfig


class EncodeSlice(Config):
    """Read by `encode`; the model without its adapter, which nothing encoded depends on."""

    encode: EncodeConfig
    window: WindowConfig
    model: ModelConfig


class TrainSlice(Config):
    """Read by the training stages: one run of the trainer over a model."""

    train: TrainConfig
    launcher: LauncherConfig = Field(json_schema_extra=HOW)
    model: ModelConfig
    window: WindowConfig


class EvaluateSlice(Config):
    """Read by `evaluate`."""

    evaluate: EvaluateConfig
    window: WindowConfig
    model: ModelConfig


class RegisterSlice(Config):
    """Read by `register`; the registry is in the tracking place."""

    tracking: TrackingConfig
    registry: RegistryConfig
    evaluate: EvaluateConfig
    window: WindowConfig
    model: ModelConfig


class PromoteSlice(Config):
    """Read by `promote`."""

    tracking: TrackingConfig
    registry: RegistryConfig
    promote: PromoteConfig
    trial: bool


def _without_adapter(model: ModelConfig) -> ModelConfig:
    return model.model_copy(update={"adapter": AdapterConfig()})


def stage_slice(stage: str, config: SoundstageConfig) -> Config:
    """The slice of `config` that the stage named `stage` reads.

    Raises:
        KeyError: no such stage.
    """
    train_parts = {"launcher": config.launcher, "model": config.model, "window": config.window}
    model_parts = {"evaluate": config.evaluate, "window": config.window, "model": config.model}
    is_synth = config.ingest.source.startswith("synth:")
    builders: dict[str, Config] = {
        "synth": SynthSlice(synth=config.synth),
        "ingest": IngestSlice(ingest=config.ingest, synth=config.synth if is_synth else None),
        "split": SplitSlice(split=config.split),
        "validate": ValidateSlice(contracts=config.contracts),
        "curator": ScorerSlice(scorer=config.curator),
        # As the class that the slice names: what is read back from JSON equals it.
        "judge": ScorerSlice(scorer=ScorerConfig(**config.judge.model_dump())),
        "score": ScoreSlice(score=config.score),
        "review": ReviewSlice(review=config.review, select=config.select, window=config.window),
        "select": SelectSlice(select=config.select, window=config.window),
        "encode": EncodeSlice(encode=config.encode, window=config.window, model=_without_adapter(config.model)),
        # Adapters come later: another one must not train the stand-in anew.
        "backbone": TrainSlice(train=config.backbone, **train_parts | {"model": _without_adapter(config.model)}),
        "pretrain": TrainSlice(train=config.pretrain, **train_parts),
        "finetune": TrainSlice(train=config.finetune, **train_parts),
        "evaluate": EvaluateSlice(**model_parts),
        "register": RegisterSlice(tracking=config.tracking, registry=config.registry, **model_parts),
        "promote": PromoteSlice(
            tracking=config.tracking, registry=config.registry, promote=config.promote, trial=config.trial
        ),
    }
    return builders[stage]
