"""Component `score`: compute the signals of every clip."""

from kfp import dsl

from components.base import soundstage_component


@soundstage_component
def score(
    config: str,
    code_version: str,
    clips: dsl.Input[dsl.Artifact],
    curator: dsl.Input[dsl.Artifact],
    record: dsl.Output[dsl.Artifact],
) -> None:
    """Compute the signals of every clip."""
    from soundstage.front import run_component

    inputs = {"clips": clips.path, "curator": curator.path}
    record.metadata.update(run_component("score", config, code_version, inputs, record.path))
