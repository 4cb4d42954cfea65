"""Component `register`: register the adapter as a model version with its lineage."""

from kfp import dsl

from components.base import soundstage_component


@soundstage_component
def register(
    config: str,
    code_version: str,
    ingest: dsl.Input[dsl.Artifact],
    clips: dsl.Input[dsl.Artifact],
    selection: dsl.Input[dsl.Artifact],
    shards: dsl.Input[dsl.Artifact],
    backbone: dsl.Input[dsl.Artifact],
    pretrain: dsl.Input[dsl.Artifact],
    finetune: dsl.Input[dsl.Artifact],
    evaluation: dsl.Input[dsl.Artifact],
    record: dsl.Output[dsl.Artifact],
) -> None:
    """Register the adapter as a model version with its lineage."""
    from soundstage.front import run_component

    inputs = {
        "ingest": ingest.path,
        "clips": clips.path,
        "selection": selection.path,
        "shards": shards.path,
        "backbone": backbone.path,
        "pretrain": pretrain.path,
        "finetune": finetune.path,
        "evaluation": evaluation.path,
    }
    record.metadata.update(run_component("register", config, code_version, inputs, record.path))
