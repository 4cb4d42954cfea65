"""The one trainer: the stand-in and both stages differ by configuration and by what is trainable."""

from __future__ import annotations

import math
import resource
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from ..data.shards import NULL_CAPTION, ShardReader
from ..errors import TrainingError
from ..models.audio.base import FeatureGrid
from ..models.backbones.base import Backbone, TextEmbedding
from ..models.backbones.load import encoder_fingerprints, load_backbone, new_backbone
from ..models.backbones.stand_in import StandIn, save_stand_in
from ..models.bundle import ENCODERS_FOLDER, load_adapter, new_adapters, save_adapter
from ..models.conditioned import AudioConditionedTransformer
from ..stages.files import write_json
from .average import WeightAverage
from .engine import Engine, learning_rate
from .feed import Batch, Feed, accumulation, held_out_batches
from .heartbeat import beat
from .held_out import HeldOut
from .job import CURVES_FILE, TrainingJob
from .metrics import MetricsWriter, read_metrics
from .objective import DenoisingObjective
from .previews import first_of, write_previews
from .termination import Termination, forget_stopped, mark_stopped


def train(job: TrainingJob) -> None:
    """Run a job in this process, one of the job's ranks; rank 0 writes metrics and, at the end, the outputs.

    Asked to stop by SIGTERM, it saves a checkpoint, marks the job as stopped and writes no outputs.
    """
    with Termination() as termination:
        _train(job, termination)


def _train(job: TrainingJob, termination: Termination) -> None:
    config = job.config.train
    torch.manual_seed(config.seed)
    fingerprints = encoder_fingerprints(job.config.model.backbone, job.config.model.audio)
    reader = ShardReader(job.shards, fingerprints, {job.use})
    replay = ShardReader(job.shards, fingerprints, {"pretrain"}) if config.replay_share > 0 else None
    backbone, model = build(job, reader)
    for window in reader.windows.values():
        backbone.check_window(window.num_frames, *window.frame_size)
    if config.activation_checkpointing:
        backbone.checkpoint_activations()
    objective = DenoisingObjective(backbone, model, job.config.model, job.config.window, config)
    engine = Engine(objective, config, accumulation(config, job.config.launcher.ranks), job.checkpoints)
    try:
        feed = Feed(reader, config, engine.rank, engine.world_size, replay)
        held_out = held_out_batches(ShardReader(job.shards, fingerprints, {"validation"}), config)
        null_text = TextEmbedding(*(part[None] for part in reader.text(NULL_CAPTION)))
        run = Run(job, engine, feed, held_out, backbone, objective, null_text)
        if run.to_its_end(termination):
            run.save_outputs()
    finally:
        engine.close()


def build(job: TrainingJob, reader: ShardReader) -> tuple[Backbone, AudioConditionedTransformer]:
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


@dataclass
class Clock:
    """When the last step ended, and when its bookkeeping did: what lies between is waiting for data."""

    ended: float
    ready: float


class Run:
    """A job on its way: what one step, and what every so many of them, do."""

    def __init__(
        self,
        job: TrainingJob,
        engine: Engine,
        feed: Feed,
        held_out: list[Batch],
        backbone: Backbone,
        objective: DenoisingObjective,
        null_text: TextEmbedding,
    ) -> None:
        self._job, self._engine, self._feed = job, engine, feed
        self._backbone, self._objective, self._null_text = backbone, objective, null_text
        self._config = job.config.train
        self._shown = first_of(held_out[0], self._config.samples) if held_out else None
        self._average = WeightAverage(engine, self._config.ema_decay)
        self._held_out = HeldOut(engine, held_out, self._config.early_stop, job.scratch)
        self._start = 0
        if engine.resumed is not None:
            self._start = engine.resumed.steps
            self._average.load(engine.resumed.folder, self._start)
            self._held_out.resume(engine.resumed.state["held_out"], engine.resumed.folder)
        self._saved = self._start

    def to_its_end(self, termination: Termination) -> bool:
        """Train from where the newest checkpoint is; false when asked to stop before the end."""
        config = self._config
        beat(self._job.scratch, self._engine.rank, self._start)
        if self._engine.rank == 0:
            forget_stopped(self._job.scratch)
        with MetricsWriter(self._job.metrics, self._engine.rank, self._start) as metrics:
            clock = Clock(time.monotonic(), time.monotonic())
            for step, batches in self._feed.steps(self._start, config.steps):
                if self._held_out.exhausted:  # also when the checkpoint that the run goes on from says so
                    break
                if self._engine.any(termination.asked):
                    self._stop(step, metrics)
                    return False
                self.step(step, batches, metrics, clock)
                clock.ready = time.monotonic()
        return True

    def step(self, step: int, batches: list[Batch], metrics: MetricsWriter, clock: Clock) -> None:
        """One optimizer step and what falls due after it."""
        config, engine, done = self._config, self._engine, step + 1
        begun = time.monotonic()
        # Before the first operation that waits for the others: a rank that never comes here has beaten least.
        beat(self._job.scratch, engine.rank, step)
        loss = engine.step(step, batches, StopOnNonFinite(step, engine))
        self._check_gradient(step, batches)
        self._average.update()
        beat(self._job.scratch, engine.rank, done)
        now = time.monotonic()
        metrics.write(
            step=done,
            loss=loss,
            learning_rate=learning_rate(config, step),
            gradient_norm=engine.gradient_norm,
            samples_per_sec=config.global_batch / max(now - clock.ended, 1e-9),
            data_wait_share=(begun - clock.ready) / max(now - clock.ended, 1e-9),
            **_memory(),
        )
        clock.ended = now
        self._look(done, metrics)
        if done % config.checkpoint_every == 0 and done < config.steps:
            self._save(done, metrics)

    def _look(self, done: int, metrics: MetricsWriter) -> None:
        """Held-out loss and sample videos, by the weights that would be saved."""
        config = self._config
        measured = bool(self._held_out) and (done % config.validate_every == 0 or done == config.steps)
        shown = self._shown is not None and config.sample_every > 0 and done % config.sample_every == 0
        if not measured and not shown:
            return
        with self._average.applied():
            if measured:
                metrics.write(step=done, validation_loss=self._held_out.measure(done))
            if shown and self._shown is not None:
                parts = (self._engine, self._backbone, self._objective, self._shown, self._null_text)
                write_previews(self._job.previews, done, *parts, config.sample_steps)

    def _check_gradient(self, step: int, batches: list[Batch]) -> None:
        """A gradient that is not finite has moved the weights, or will: no checkpoint may hold them."""
        norm = self._engine.gradient_norm
        if math.isfinite(norm):
            return
        found = [clip_id for batch in batches for clip_id in batch.clip_ids]
        clips = ", ".join(clip_id for rank in self._engine.collect(found) for clip_id in rank)
        raise TrainingError(
            f"the gradient's norm is {norm} at step {step}, with a finite loss; checkpoints before it are good. "
            f"Clips of the batch: {clips}. Lower train.learning_rate or look at these clips"
        )

    def _save(self, done: int, metrics: MetricsWriter) -> None:
        metrics.sync()

        def files(folder: Path) -> None:
            self._average.save(folder)
            self._held_out.save(folder)

        self._engine.save(done, {"held_out": self._held_out.state}, files)
        self._saved = done

    def _stop(self, done: int, metrics: MetricsWriter) -> None:
        if done > self._saved:
            self._save(done, metrics)
        if self._engine.rank == 0:
            mark_stopped(self._job.scratch, done)

    def save_outputs(self) -> None:
        """Write weights and curves; curves hold losses only, so that equal runs give equal bytes."""
        job, model = self._job, self._objective.model
        # The best weights were averaged when they were kept.
        applied = nullcontext() if self._held_out.restore_best() else self._average.applied()
        with applied, self._engine.whole():
            if self._engine.rank == 0:
                if model.adapters is None:
                    assert isinstance(self._backbone, StandIn)
                    save_stand_in(self._backbone, job.out / "backbone")
                else:
                    parts = (model.adapters, self._backbone, job.config.model, job.config.window, job.stage)
                    save_adapter(job.out / "adapter", *parts, encoders=job.shards / ENCODERS_FOLDER)
        if self._engine.rank == 0:
            _save_curves(job)


def _memory() -> dict[str, float]:
    """Peak memory of this process so far, and what torch had allocated on its GPU at most."""
    peak = {"memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
    if torch.cuda.is_available():
        peak["gpu_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return peak


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
        if self._engine.any(bad):
            # Every rank says the same, so that it does not matter whose words are heard last.
            found = [report for report in self._engine.collect((value, batch.clip_ids) if bad else None) if report]
            clips = ", ".join(clip_id for _, clip_ids in found for clip_id in clip_ids)
            raise TrainingError(
                f"loss is {found[0][0]} at step {self._step}; the optimizer was not moved. "
                f"Clips of the batch: {clips}. "
                "Lower train.learning_rate or look at these clips"
            )


def _save_curves(job: TrainingJob) -> None:
    lines = read_metrics(job.metrics)
    write_json(
        job.out / CURVES_FILE,
        {
            "train": [[line["step"], line["loss"]] for line in lines if "loss" in line],
            "validation": [[line["step"], line["validation_loss"]] for line in lines if "validation_loss" in line],
        },
    )
