"""Wiring of the training pipeline; every value comes in as a parameter, computed at submission (`pipelines.plan`).

A stage has two parameters: its configuration slice as JSON and the fingerprint of its code. Kubeflow's cache key sees
these and the digests of the input records, so a change reruns exactly what depends on it.
"""

from typing import Any, NamedTuple

from kfp import dsl

from components.backbone.component import backbone
from components.curator.component import curator
from components.encode.component import encode
from components.evaluate.component import evaluate
from components.finetune.component import finetune
from components.ingest.component import ingest
from components.judge.component import judge
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
    judge: Any
    """the scorer that evaluation listens to, trained on clips that nothing else uses"""
    gate: Any
    """the last data contract: what trains waits for it"""


def _curate(stages: dict[str, Stage], outside: dict[str, Any]) -> Curated:
    def parameters(name: str) -> dict[str, Any]:
        return stages[name].arguments()

    contract = parameters("validate")
    ingested = _made(ingest(inputs_digest=outside["ingest"], **parameters("ingest")))
    clips = _made(split(ingest=ingested, **parameters("split")))
    clips_gate = validate_clips(clips=clips, ingest=ingested, **contract)
    scorers = {
        "curator": curator(inputs_digest=outside["curator"], clips=clips, **parameters("curator")).after(clips_gate),
        "judge": judge(inputs_digest=outside["judge"], clips=clips, **parameters("judge")).after(clips_gate),
    }
    signals = _made(score(clips=clips, curator=_made(scorers["curator"]), **parameters("score")).after(clips_gate))
    signals_gate = validate_signals(clips=clips, signals=signals, **contract)
    ledger = parameters("review") | {"inputs_digest": outside["review"]}
    reviewed = review(clips=clips, signals=signals, ingest=ingested, **ledger)
    verdicts = _made(reviewed.after(signals_gate))
    selection = _made(select(clips=clips, signals=signals, review=verdicts, **parameters("select")))
    selection_gate = validate_selection(clips=clips, selection=selection, review=verdicts, **contract)
    encoded = encode(
        inputs_digest=outside["encode"],
        clips=clips,
        selection=selection,
        curator=_made(scorers["curator"]),
        **parameters("encode"),
    )
    shards = _made(encoded.after(selection_gate))
    shards_gate = validate_shards(selection=selection, shards=shards, **contract)
    return Curated(ingested, clips, selection, shards, _made(scorers["judge"]), shards_gate)


def _train(stages: dict[str, Stage], data: Curated, checkpoint: Any) -> None:
    def parameters(name: str) -> dict[str, Any]:
        return stages[name].arguments()

    named = backbone(inputs_digest=checkpoint, shards=data.shards, **parameters("backbone"))
    frozen = _made(named.after(data.gate))
    first = _made(pretrain(shards=data.shards, backbone=frozen, **parameters("pretrain")))
    second = _made(finetune(shards=data.shards, backbone=frozen, pretrain=first, **parameters("finetune")))
    models = {"backbone": frozen, "pretrain": first, "finetune": second}
    sources = {"clips": data.clips, "selection": data.selection}
    measured = _made(evaluate(judge=data.judge, **sources, **models, **parameters("evaluate")))
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
    curator_config: str,
    curator_code: str,
    curator_saved: str,
    judge_config: str,
    judge_code: str,
    judge_saved: str,
    score_config: str,
    score_code: str,
    review_config: str,
    review_code: str,
    review_ledger: str,
    select_config: str,
    select_code: str,
    encode_config: str,
    encode_code: str,
    encode_checkpoint: str,
    backbone_config: str,
    backbone_code: str,
    backbone_checkpoint: str,
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
        "curator": Stage(curator_config, curator_code),
        "judge": Stage(judge_config, judge_code),
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
    outside = {
        "ingest": ingest_listing,
        "curator": curator_saved,
        "judge": judge_saved,
        "review": review_ledger,
        "encode": encode_checkpoint,
    }
    _train(learning, _curate(curation, outside), backbone_checkpoint)
