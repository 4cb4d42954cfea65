"""Component `backbone`: the frozen backbone, pretrained or a stand-in."""

from kfp import dsl

from components.base import soundstage_component


@soundstage_component
def backbone(
    config: str,
    code_version: str,
    inputs_digest: str,
    shards: dsl.Input[dsl.Artifact],
    record: dsl.Output[dsl.Artifact],
) -> None:
    """Name the frozen backbone: the pretrained one by reference, or a stand-in trained on video alone."""
    from soundstage.front import run_component

    inputs = {"shards": shards.path}
    record.metadata.update(run_component("backbone", config, code_version, inputs, record.path, inputs_digest))
