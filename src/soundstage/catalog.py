"""The stages by name, and the one way to run one: every front door (command line, DVC, Kubeflow) comes through here.

A row names the function as `module:attribute`; it is imported when it runs, so listing stages costs nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from .config import Config, SoundstageConfig, stage_slice
from .errors import ConfigError
from .stages import Execution, Observer, Outcome, StageRecord, Work, Workspace, code_version, execute


@dataclass(frozen=True)
class Stage:
    """One stage: its function, what it reads, and whether an earlier result may serve."""

    name: str
    function: str
    """`module:attribute` of a StageFunction"""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """name inside the function -> stage that makes it"""
    slice_name: str = ""
    """key of the config slice; the stage's own name by default"""
    external: str = ""
    """`module:attribute` of (config slice, workspace) -> digest of what lies outside records"""
    cacheable: bool = True

    @property
    def module(self) -> str:
        """Module of the stage's function."""
        return self.function.partition(":")[0]

    def code_version(self) -> str:
        """Fingerprint of all code that can reach the result."""
        return code_version(self.module)

    def slice_of(self, config: SoundstageConfig) -> Config:
        """What this stage reads of the tree."""
        return stage_slice(self.slice_name or self.name, config)


def _stage(name: str, function: str, **options: object) -> tuple[str, Stage]:
    return name, Stage(name, f"soundstage.{function}", **options)  # type: ignore[arg-type]


_CLIPS = {"clips": "split"}
_CHECKPOINT = "soundstage.models.backbones.load:pretrained_digest"
_SAVED_SCORER = "soundstage.curation.scorer.reference:pretrained_digest"

STAGES: dict[str, Stage] = dict(
    [
        _stage("ingest", "data.ingest:run", external="soundstage.data.sources:listing_digest"),
        _stage("split", "data.split:run", inputs={"ingest": "ingest"}),
        _stage("validate-clips", "data.validate:clips", inputs=_CLIPS | {"ingest": "ingest"}, slice_name="validate"),
        _stage("curator", "curation.scorer.stage:curator", inputs=_CLIPS, external=_SAVED_SCORER),
        _stage("judge", "curation.scorer.stage:judge", inputs=_CLIPS, external=_SAVED_SCORER),
        _stage("score", "curation.score:run", inputs=_CLIPS | {"curator": "curator"}),
        _stage(
            "validate-signals", "data.validate:signals", inputs=_CLIPS | {"signals": "score"}, slice_name="validate"
        ),
        _stage(
            "review",
            "curation.review:run",
            inputs=_CLIPS | {"signals": "score", "ingest": "ingest"},
            external="soundstage.curation.review:ledger_digest",
        ),
        _stage("select", "curation.select:run", inputs=_CLIPS | {"signals": "score", "review": "review"}),
        _stage(
            "validate-selection",
            "data.validate:selection",
            inputs=_CLIPS | {"selection": "select", "review": "review"},
            slice_name="validate",
        ),
        _stage(
            "encode",
            "data.encode:run",
            inputs=_CLIPS | {"selection": "select", "curator": "curator"},
            external=_CHECKPOINT,
        ),
        _stage(
            "validate-shards",
            "data.validate:shards",
            inputs={"selection": "select", "shards": "encode"},
            slice_name="validate",
        ),
        _stage("backbone", "training.stages:train_backbone", inputs={"shards": "encode"}, external=_CHECKPOINT),
        _stage("pretrain", "training.stages:pretrain", inputs={"shards": "encode", "backbone": "backbone"}),
        _stage(
            "finetune",
            "training.stages:finetune",
            inputs={"shards": "encode", "backbone": "backbone", "pretrain": "pretrain"},
        ),
        _stage(
            "evaluate",
            "evaluation.evaluate:run",
            inputs=_CLIPS
            | {
                "selection": "select",
                "judge": "judge",
                "backbone": "backbone",
                "pretrain": "pretrain",
                "finetune": "finetune",
            },
        ),
        _stage(
            "register",
            "tracking.register:run",
            inputs={
                "ingest": "ingest",
                "clips": "split",
                "selection": "select",
                "shards": "encode",
                "backbone": "backbone",
                "pretrain": "pretrain",
                "finetune": "finetune",
                "evaluation": "evaluate",
            },
            cacheable=False,
        ),
        _stage(
            "promote",
            "tracking.promote:run",
            inputs={"model": "register", "evaluation": "evaluate"},
            cacheable=False,
        ),
    ]
)


def find_stage(name: str) -> Stage:
    """The stage called `name`.

    Raises:
        ConfigError: no such stage; the known ones are listed.
    """
    if name not in STAGES:
        raise ConfigError(f"no stage is called {name!r}; stages: {', '.join(STAGES)}")
    return STAGES[name]


def load_attribute(path: str) -> object:
    """The object at `module:attribute`."""
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def external_digest(stage: Stage, config: Config, workspace: Workspace) -> str:
    """Digest of what a stage reads beside records: the source listing, the ledger; empty for most."""
    if not stage.external:
        return ""
    digest = load_attribute(stage.external)
    assert callable(digest)
    return str(digest(config, workspace))


def run_stage(
    name: str,
    config: Config,
    inputs: Mapping[str, StageRecord],
    workspace: Workspace,
    *,
    external: str | None = None,
    observer: Observer | None = None,
    fresh: bool = False,
) -> Execution:
    """Run one stage with its slice and input records, or find its earlier result.

    `external` is the digest taken at submission; None takes it now. `fresh` runs it although its result exists.
    """
    stage = find_stage(name)

    def function(config: Config, inputs: Mapping[str, StageRecord], work: Work) -> Outcome:
        # Imported only when there is work: a result that exists is found without the seconds this costs.
        loaded = load_attribute(stage.function)
        assert callable(loaded)
        outcome = loaded(config, inputs, work)
        assert isinstance(outcome, Outcome)
        return outcome

    return execute(
        name,
        function,
        config,
        inputs,
        workspace,
        code_version=stage.code_version(),
        external_digest=external_digest(stage, config, workspace) if external is None else external,
        cacheable=stage.cacheable and not fresh,
        observer=observer,
    )
