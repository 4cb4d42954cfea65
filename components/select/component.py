"""Component `select`: decide the use of every clip, with reasons."""

from kfp import dsl

from components.base import soundstage_component


@soundstage_component
def select(
    config: str,
    code_version: str,
    clips: dsl.Input[dsl.Artifact],
    signals: dsl.Input[dsl.Artifact],
    review: dsl.Input[dsl.Artifact],
    record: dsl.Output[dsl.Artifact],
) -> None:
    """Decide the use of every clip, with reasons."""
    from soundstage.front import run_component

    inputs = {"clips": clips.path, "signals": signals.path, "review": review.path}
    record.metadata.update(run_component("select", config, code_version, inputs, record.path))
