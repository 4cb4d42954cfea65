"""The one trainer: the stand-in and both stages differ by configuration and by what is trainable."""

from __future__ import annotations

import json
import math
import resource
import time
from typing import Any, TextIO

import torch

from ..data.shards import ShardReader
from ..errors import TrainingError
from ..models.audio.base import FeatureGrid
from ..models.backbones.base import Backbone
from ..models.backbones.load import encoder_fingerprints, load_backbone, new_backbone
from ..models.backbones.stand_in import StandIn, save_stand_in
from ..models.bundle import ENCODERS_FOLDER, load_adapter, new_adapters, save_adapter
from ..models.conditioned import AudioConditionedTransformer
from ..stages.files import write_json
from .engine import Engine, learning_rate
from .feed import Batch, Feed
from .job import CURVES_FILE, TrainingJob
from .objective import DenoisingObjective

_VALIDATION_BATCHES = 4


def train(job: TrainingJob) -> None:
    """Run a job in this process, one of the job's ranks; rank 0 writes metrics and, at the end, the outputs."""
    config = job.config.train
    torch.manual_seed(config.seed)
    fingerprints = encoder_fingerprints(job.config.model.backbone, job.config.model.audio)
    reader = ShardReader(job.shards, fingerprints, {job.use})
    backbone, model = _build(job, reader)
    objective = DenoisingObjective(backbone, model, job.config.model, job.config.window, config)
    held_out = ShardReader(job.shards, fingerprints, {"validation"})
    ranks = job.config.launcher.ranks
    engine = Engine(objective, config, Feed(reader, config, 0, ranks).accumulation)
    try:
        feed = Feed(reader, config, engine.rank, engine.world_size)
        _loop(job, engine, feed, _validation(held_out, job))
        with engine.gathered(model):
            if engine.rank == 0:
                _save(job, backbone, model)
    finally:
        engine.close()


def _build(job: TrainingJob, reader: ShardReader) -> tuple[Backbone, AudioConditionedTransformer]:
    """The model with exactly the job's parameters trainable."""
    config = job.config
    if job.backbone is None:
        stand_in = new_backbone(config.model.backbone, config.train.seed)
        return stand_in, AudioConditionedTransformer(stand_in, None)
    backbone = load_backbone(job.backbone)
    if job.initial_adapter is None:
        grids = {name: FeatureGrid(**grid) for name, grid in reader.index["grids"].items()}
        adapters = new_adapters(backbone, grids, config.model)
    else:
        adapters, _, _ = load_adapter(job.initial_adapter, backbone)
    return backbone, AudioConditionedTransformer(backbone, adapters)


def _validation(reader: ShardReader, job: TrainingJob) -> list[Batch]:
    """Fixed held-out batches: the same samples, noise and levels at every measurement, nothing dropped out."""
    config = job.config.train.model_copy(update={"audio_dropout": 0.0, "text_dropout": 0.0})
    size = config.micro_batch
    count = min(len(reader), _VALIDATION_BATCHES * size)
    feed = Feed(reader, config)
    return [feed.batch(range(start, min(start + size, count))) for start in range(0, count, size)]


def _loop(job: TrainingJob, engine: Engine, feed: Feed, held_out: list[Batch]) -> None:
    config = job.config.train
    start = engine.resume(job.checkpoints)
    with MetricsWriter(job, engine.rank, start) as metrics:
        waited = last = time.monotonic()
        for step, batches in feed.steps(start, config.steps):
            begun = time.monotonic()
            loss = engine.step(step, batches, StopOnNonFinite(step, engine))
            done, now = step + 1, time.monotonic()
            metrics.write(
                step=done,
                loss=loss,
                learning_rate=learning_rate(config, step),
                gradient_norm=engine.gradient_norm,
                samples_per_sec=config.global_batch / max(now - last, 1e-9),
                data_wait_share=(begun - waited) / max(now - last, 1e-9),
                memory_gib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            )
            last = waited = now
            if held_out and (done % config.validate_every == 0 or done == config.steps):
                validation = sum(engine.evaluate(batch) for batch in held_out) / len(held_out)
                metrics.write(step=done, validation_loss=engine.mean(validation))
            if done % config.checkpoint_every == 0 and done < config.steps:
                engine.save(job.checkpoints, done, config.keep_checkpoints)
            waited = time.monotonic()


class StopOnNonFinite:
    """Stops all ranks before the optimizer moves when any rank's loss is not finite, naming step and clips."""

    def __init__(self, step: int, engine: Engine) -> None:
        self._step, self._engine = step, engine

    def __call__(self, loss: torch.Tensor, batch: Batch) -> None:
        """Check one loss.

        Raises:
            TrainingError: on every rank, when any rank's loss is infinite or not a number.
        """
        value = float(loss)
        bad = not math.isfinite(value)
        if self._engine.mean(float(bad)) > 0:
            # Every rank says the same, so that it does not matter whose words are heard last.
            found = [report for report in self._engine.collect((value, batch.clip_ids) if bad else None) if report]
            clips = ", ".join(clip_id for _, clip_ids in found for clip_id in clip_ids)
            raise TrainingError(
                f"loss is {found[0][0]} at step {self._step}; the optimizer was not moved. "
                f"Clips of the batch: {clips}. "
                "Lower train.learning_rate or look at these clips"
            )


class MetricsWriter:
    """JSON lines for the launcher to follow; a resumed run drops the lines past its checkpoint."""

    def __init__(self, job: TrainingJob, rank: int, start: int) -> None:
        self._path = job.metrics
        self._rank, self._start = rank, start
        self._stream: TextIO | None = None

    def __enter__(self) -> MetricsWriter:
        if self._rank == 0:
            kept = [line for line in read_metrics(self._path) if line["step"] <= self._start]
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self._path.open("w")
            for line in kept:
                self.write(**line)
        return self

    def write(self, **values: float) -> None:
        """Append one line; rank 0 only."""
        if self._stream is not None:
            finite = {name: value for name, value in values.items() if math.isfinite(value)}
            self._stream.write(json.dumps(finite) + "\n")
            self._stream.flush()

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()


def read_metrics(path: Any) -> list[dict[str, float]]:
    """The whole lines of a metrics file; a last line cut short by a kill is left out."""
    if not path.exists():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    return [json.loads(line) for line in whole.splitlines()]


def _save(job: TrainingJob, backbone: Backbone, model: AudioConditionedTransformer) -> None:
    """Write weights and curves; curves hold losses only, so that equal runs give equal bytes."""
    if model.adapters is None:
        assert isinstance(backbone, StandIn)
        save_stand_in(backbone, job.out / "backbone")
    else:
        parts = (model.adapters, backbone, job.config.model, job.config.window, job.stage)
        save_adapter(job.out / "adapter", *parts, encoders=job.shards / ENCODERS_FOLDER)
    lines = read_metrics(job.metrics)
    write_json(
        job.out / CURVES_FILE,
        {
            "train": [[line["step"], line["loss"]] for line in lines if "loss" in line],
            "validation": [[line["step"], line["validation_loss"]] for line in lines if "validation_loss" in line],
        },
    )
