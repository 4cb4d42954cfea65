"""Component `encode`: write windows of the selected clips as shards of latents, text and audio features."""

from kfp import dsl

from components.base import soundstage_component


@soundstage_component
def encode(
    config: str,
    code_version: str,
    inputs_digest: str,
    clips: dsl.Input[dsl.Artifact],
    selection: dsl.Input[dsl.Artifact],
    curator: dsl.Input[dsl.Artifact],
    record: dsl.Output[dsl.Artifact],
) -> None:
    """Write windows of the selected clips as shards of latents, text and audio features."""
    from soundstage.front import run_component

    inputs = {"clips": clips.path, "selection": selection.path, "curator": curator.path}
    record.metadata.update(run_component("encode", config, code_version, inputs, record.path, inputs_digest))
