"""Component `pretrain`: stage one: train the audio adapters on all selected clips."""

from kfp import dsl

from components.base import soundstage_component


@soundstage_component
def pretrain(
    config: str,
    code_version: str,
    shards: dsl.Input[dsl.Artifact],
    backbone: dsl.Input[dsl.Artifact],
    record: dsl.Output[dsl.Artifact],
) -> None:
    """Stage one: train the audio adapters on all selected clips."""
    from soundstage.front import run_component

    inputs = {"shards": shards.path, "backbone": backbone.path}
    record.metadata.update(run_component("pretrain", config, code_version, inputs, record.path))
