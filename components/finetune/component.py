"""Component `finetune`: stage two: finetune the adapters on clips that a person has kept."""

from kfp import dsl

from components.base import soundstage_component


@soundstage_component
def finetune(
    config: str,
    code_version: str,
    shards: dsl.Input[dsl.Artifact],
    backbone: dsl.Input[dsl.Artifact],
    pretrain: dsl.Input[dsl.Artifact],
    record: dsl.Output[dsl.Artifact],
) -> None:
    """Stage two: finetune the adapters on clips that a person has kept."""
    from soundstage.front import run_component

    inputs = {"shards": shards.path, "backbone": backbone.path, "pretrain": pretrain.path}
    record.metadata.update(run_component("finetune", config, code_version, inputs, record.path))
