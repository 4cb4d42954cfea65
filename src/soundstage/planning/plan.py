"""The plan of a run: encode, then each training stage, on so many GPUs; whether it fits, and what would."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

from ..config import SoundstageConfig
from ..config.tree import TrainConfig
from ..data.buckets import bucket_windows
from ..errors import ConfigError
from ..models.info import on_meta
from .calibration import Calibration, Gpu
from .encoding import Storage, encode_plan, storage
from .figures import GIB, Figure, gib
from .memory import checkpoint_bytes, gpu_memory, host_memory, total
from .pace import Pace, pace
from .shapes import sample_shape
from .step import StepCount, StepCounts

_PROPOSALS = 5


class Setting(NamedTuple):
    """What a proposal may change."""

    micro_batch: int
    activation_checkpointing: bool
    zero_stage: int


@dataclass(frozen=True)
class Try:
    """A stage at one setting."""

    setting: Setting
    memory: dict[str, Figure]
    pace: Pace
    count: StepCount

    @property
    def bytes(self) -> float:
        """Peak of a GPU."""
        return total(self.memory)


@dataclass(frozen=True)
class StagePlan:
    """A training stage as configured, and settings that fit where it does not; fastest first."""

    stage: str
    train: TrainConfig
    configured: Try
    limit: float
    """bytes of a GPU"""
    host: dict[str, Figure]
    proposals: tuple[Try, ...]
    least: Try

    @property
    def fits(self) -> bool:
        """Whether it does as configured."""
        return self.configured.bytes <= self.limit

    def overrides(self, proposal: Try) -> list[str]:
        """What to give with `--set` for a proposal."""
        now, then = self.configured.setting._asdict(), proposal.setting._asdict()
        return [f"{self.stage}.{key}={str(then[key]).lower()}" for key in then if then[key] != now[key]]


@dataclass(frozen=True)
class Plan:
    """All of it."""

    config: SoundstageConfig
    clips: int
    gpus: int
    gpu_name: str
    gpu: Gpu
    storage: Storage
    encode: dict[str, dict[str, Figure]]
    stages: tuple[StagePlan, ...]

    @property
    def fits(self) -> bool:
        """Whether every stage does, encode too."""
        return all(stage.fits for stage in self.stages) and self.encode_bytes <= self.gpu.memory_gb * 1e9

    @property
    def encode_bytes(self) -> float:
        """Memory of an encoding worker."""
        return self.encode["memory"]["all"].value * GIB


def make_plan(config: SoundstageConfig, clips: int, gpus: int, gpu_name: str, calibration: Calibration) -> Plan:
    """Plan `config` for `clips` training clips on `gpus` GPUs of one kind.

    Memory is that of the bucket with the most tokens, time that of the model's own window.

    Raises:
        ConfigError: the global batch does not divide among the GPUs, an unknown GPU, a window the backbone refuses.
    """
    planner = _Planner(config, gpus, calibration.gpu(gpu_name), calibration)
    stages = [("pretrain", config.pretrain), ("finetune", config.finetune)]
    if planner.model.backbone.stand_in:
        stages.insert(0, ("backbone", config.backbone))
    return Plan(
        config=config,
        clips=clips,
        gpus=gpus,
        gpu_name=gpu_name,
        gpu=planner.gpu,
        stages=tuple(planner.stage(name, train) for name, train in stages),
        encode=encode_plan(config, planner.model, clips, gpus, planner.gpu, calibration),
        storage=storage(config, planner.own, clips),
    )


class _Planner:
    """Counts each kind of step once, whatever number of settings and stages ask for it."""

    def __init__(self, config: SoundstageConfig, gpus: int, gpu: Gpu, calibration: Calibration) -> None:
        self.gpu, self.model = gpu, on_meta(config)
        self._config, self._gpus, self._calibration = config, gpus, calibration
        self._counted: dict[tuple[bool, str, bool, bool], StepCounts] = {}
        self.own = sample_shape(config, self.model)
        windows = bucket_windows(config.encode, config.window).values()
        buckets = [config.model_copy(update={"window": window}) for window in windows]
        self._largest = max(buckets, key=lambda each: prod(sample_shape(each, self.model).latents))

    def stage(self, name: str, train: TrainConfig) -> StagePlan:
        """One training stage."""
        if train.global_batch % self._gpus:
            raise ConfigError(
                f"{name}.global_batch={train.global_batch} does not divide among --gpus {self._gpus}; set "
                f"{name}.global_batch={-(-train.global_batch // self._gpus) * self._gpus}, or take another number"
            )
        per_rank = train.global_batch // self._gpus
        micro = min(train.micro_batch, per_rank)
        if per_rank % micro:
            raise ConfigError(
                f"{name}.micro_batch={micro} does not divide the {per_rank} samples of a rank in a step; set it to one "
                f"of {', '.join(map(str, _divisors(per_rank)))}"
            )
        train = train.model_copy(update={"micro_batch": micro})
        trains_backbone, limit = name == "backbone", self.gpu.memory_gb * 1e9
        setting = Setting(micro, train.activation_checkpointing, train.zero_stage)
        configured = self._try(train, setting, trains_backbone)
        others: list[Try] = []
        if configured.bytes > limit:
            others = [self._try(train, each, trains_backbone) for each in _settings(per_rank)]
        return StagePlan(
            stage=name,
            train=train,
            configured=configured,
            limit=limit,
            host=host_memory(configured.count, train, self._gpus, self._calibration),
            proposals=_best(setting, [each for each in others if each.bytes <= limit]),
            least=min([configured, *others], key=lambda each: each.bytes),
        )

    def _try(self, train: TrainConfig, setting: Setting, trains_backbone: bool) -> Try:
        changed = train.model_copy(update=setting._asdict())
        held = self._count(changed, trains_backbone, largest=True)
        timed = self._count(changed, trains_backbone, largest=False)
        return Try(
            setting=setting,
            memory=gpu_memory(held, changed, self._gpus, self._calibration),
            pace=pace(timed, changed, self._gpus, self.gpu, self._calibration),
            count=held,
        )

    def _count(self, train: TrainConfig, trains_backbone: bool, *, largest: bool) -> StepCount:
        config = self._largest if largest else self._config
        same = config.window == self._config.window
        key = (train.activation_checkpointing, train.precision, trains_backbone, same)
        if key not in self._counted:
            sample = sample_shape(config, self.model)
            self._counted[key] = StepCounts(config, train, sample, trains_backbone=trains_backbone)
        return self._counted[key].at(train.micro_batch)


def _best(configured: Setting, fitting: list[Try]) -> tuple[Try, ...]:
    """Fastest first; of those within a hundredth of each other, which no arithmetic tells apart, the least changed."""

    def order(each: Try) -> tuple[int, int, int]:
        changes = sum(now != then for now, then in zip(configured, each.setting, strict=True))
        slower = int(100 * (each.pace.step / fastest - 1))
        return slower, changes, -each.setting.micro_batch

    fastest = min((each.pace.step for each in fitting), default=0.0)
    return tuple(sorted(fitting, key=order)[:_PROPOSALS])


def _settings(per_rank: int) -> Iterator[Setting]:
    for micro_batch in _divisors(per_rank):
        for checkpointing in (False, True):
            for zero_stage in range(4):
                yield Setting(micro_batch, checkpointing, zero_stage)


def _divisors(number: int) -> list[int]:
    return [each for each in range(1, number + 1) if number % each == 0]


def plan_report(plan: Plan) -> dict[str, Any]:
    """The plan as JSON takes it; every number with its unit and origin."""
    return {
        "preset": plan.config.preset,
        "clips": plan.clips,
        "gpus": plan.gpus,
        "gpu": plan.gpu_name,
        "gpu_memory": gib(plan.gpu.memory_gb * 1e9, "assumed").as_json(),
        "fits": plan.fits,
        "storage": {name: each.as_json() for name, each in storage_figures(plan.storage).items()},
        "encode": {part: _as_json(figures) for part, figures in plan.encode.items()},
        "stages": {stage.stage: _stage_report(stage, plan) for stage in plan.stages},
    }


def storage_figures(found: Storage) -> dict[str, Figure]:
    """Counts and sizes of the encode payload."""
    return {
        "samples": Figure(found.samples, ""),
        "shards": Figure(found.shards, ""),
        "bytes a sample": Figure(found.sample_bytes, "B"),
        "bytes a shard": Figure(found.shard_bytes, "B"),
        "samples in all": gib(found.samples * found.sample_bytes),
        # A caption of its own for every clip, none shorter than the encoder takes.
        "text embeddings, at most": gib(found.text_bytes),
        "index": gib(found.index_bytes, "assumed"),
    }


def time_figures(stage: StagePlan, plan: Plan) -> dict[str, Figure]:
    """Step, stage and what they take."""
    found, count, train = stage.configured.pace, stage.configured.count, stage.train
    passes = train.global_batch // (plan.gpus * stage.configured.setting.micro_batch)
    return {
        "operations a step and GPU": Figure(passes * (count.forward_flop + count.backward_flop) / 1e12, "TFLOP"),
        "compute": Figure(found.compute, "s", "assumed"),
        "communication": Figure(found.communication, "s", "assumed"),
        "step": Figure(found.step, "s", "assumed"),
        "samples a second": Figure(train.global_batch / found.step, "/s", "assumed"),
        "steps": Figure(train.steps, ""),
        "samples seen": Figure(train.steps * train.global_batch, ""),
        "checkpoint": gib(checkpoint_bytes(count, train)),
        "checkpoints kept": gib(train.keep_checkpoints * checkpoint_bytes(count, train)),
        "stage": Figure(found.stage / 3600, "h", "assumed"),
        "GPU hours": Figure(plan.gpus * found.stage / 3600, "h", "assumed"),
    }


def _stage_report(stage: StagePlan, plan: Plan) -> dict[str, Any]:
    return {
        "setting": stage.configured.setting._asdict(),
        "fits": stage.fits,
        "gpu_memory": _as_json(stage.configured.memory | {"all": gib(stage.configured.bytes, "assumed")}),
        "host_memory": _as_json(stage.host),
        "time": _as_json(time_figures(stage, plan)),
        "proposals": [
            {
                "overrides": stage.overrides(each),
                "gpu_memory": gib(each.bytes, "assumed").as_json(),
                "step": Figure(each.pace.step, "s", "assumed").as_json(),
            }
            for each in stage.proposals
        ],
        "least_gpu_memory": gib(stage.least.bytes, "assumed").as_json(),
    }


def _as_json(figures: dict[str, Figure]) -> dict[str, Any]:
    return {name: each.as_json() for name, each in figures.items()}
