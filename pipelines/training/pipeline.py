"""Wiring of the training pipeline; every value comes in as a parameter, computed at submission (`pipelines.plan`).

A stage has two parameters: its configuration slice as JSON and the fingerprint of its code. Kubeflow's cache key sees
these and the digests of the input records, so a change reruns exactly what depends on it.
"""

from typing import Any, NamedTuple

from kfp import dsl

from components.backbone.component import backbone
from components.encode.component import encode
from components.evaluate.component import evaluate
from components.finetune.component import finetune
from components.ingest.component import ingest
from components.pretrain.component import pretrain
from components.promote.component import promote
from components.register.component import register
from components.review.component import review
from components.score.component import score
from components.select.component import select
from components.split.component import split
from components.validate.component import validate_clips, validate_selection, validate_shards, validate_signals


class Stage(NamedTuple):
    """The two parameters of a stage, while wiring."""

    config: Any
    code_version: Any

    def arguments(self) -> dict[str, Any]:
        """Arguments that every component takes."""
        return self._asdict()


def _made(task: Any) -> Any:
    return task.outputs["record"]


def _uncached(task: Any) -> Any:
    # A registry outside can change under a finished run, so these two always run.
    return task.set_caching_options(False)


class Curated(NamedTuple):
    """Records that training and registration read."""

    ingest: Any
    clips: Any
    selection: Any
    shards: Any
    gate: Any
    """the last data contract: what trains waits for it"""


def _curate(stages: dict[str, Stage], listing: Any, ledger: Any) -> Curated:
    def parameters(name: str) -> dict[str, Any]:
        return stages[name].arguments()

    judge = parameters("validate")
    ingested = _made(ingest(inputs_digest=listing, **parameters("ingest")))
    clips = _made(split(ingest=ingested, **parameters("split")))
    clips_gate = validate_clips(clips=clips, ingest=ingested, **judge)
    signals = _made(score(clips=clips, **parameters("score")).after(clips_gate))
    signals_gate = validate_signals(clips=clips, signals=signals, **judge)
    reviewed = review(inputs_digest=ledger, clips=clips, signals=signals, ingest=ingested, **parameters("review"))
    verdicts = _made(reviewed.after(signals_gate))
    selection = _made(select(clips=clips, signals=signals, review=verdicts, **parameters("select")))
    selection_gate = validate_selection(clips=clips, selection=selection, review=verdicts, **judge)
    shards = _made(encode(clips=clips, selection=selection, **parameters("encode")).after(selection_gate))
    shards_gate = validate_shards(selection=selection, shards=shards, **judge)
    return Curated(ingested, clips, selection, shards, shards_gate)


def _train(stages: dict[str, Stage], data: Curated) -> None:
    def parameters(name: str) -> dict[str, Any]:
        return stages[name].arguments()

    frozen = _made(backbone(shards=data.shards, **parameters("backbone")).after(data.gate))
    first = _made(pretrain(shards=data.shards, backbone=frozen, **parameters("pretrain")))
    second = _made(finetune(shards=data.shards, backbone=frozen, pretrain=first, **parameters("finetune")))
    models = {"backbone": frozen, "pretrain": first, "finetune": second}
    sources = {"clips": data.clips, "selection": data.selection}
    measured = _made(evaluate(**sources, **models, **parameters("evaluate")))
    version = _uncached(
        register(
            ingest=data.ingest, shards=data.shards, evaluation=measured, **sources, **models, **parameters("register")
        )
    )
    _uncached(promote(model=_made(version), evaluation=measured, **parameters("promote")))


@dsl.pipeline(name="soundstage-training", description="Raw videos with sound to a promoted, audio-synchronised model")
def training(
    ingest_config: str,
    ingest_code: str,
    ingest_listing: str,
    split_config: str,
    split_code: str,
    validate_config: str,
    validate_code: str,
    score_config: str,
    score_code: str,
    review_config: str,
    review_code: str,
    review_ledger: str,
    select_config: str,
    select_code: str,
    encode_config: str,
    encode_code: str,
    backbone_config: str,
    backbone_code: str,
    pretrain_config: str,
    pretrain_code: str,
    finetune_config: str,
    finetune_code: str,
    evaluate_config: str,
    evaluate_code: str,
    register_config: str,
    register_code: str,
    promote_config: str,
    promote_code: str,
) -> None:
    """Wire all stages; parameters as `pipelines.plan.arguments` computes them."""
    curation = {
        "ingest": Stage(ingest_config, ingest_code),
        "split": Stage(split_config, split_code),
        "validate": Stage(validate_config, validate_code),
        "score": Stage(score_config, score_code),
        "review": Stage(review_config, review_code),
        "select": Stage(select_config, select_code),
        "encode": Stage(encode_config, encode_code),
    }
    learning = {
        "backbone": Stage(backbone_config, backbone_code),
        "pretrain": Stage(pretrain_config, pretrain_code),
        "finetune": Stage(finetune_config, finetune_code),
        "evaluate": Stage(evaluate_config, evaluate_code),
        "register": Stage(register_config, register_code),
        "promote": Stage(promote_config, promote_code),
    }
    _train(learning, _curate(curation, ingest_listing, review_ledger))
