"""Component `promote`: judge the candidate against the gate's rules and move the alias only if they hold."""

from kfp import dsl

from components.base import soundstage_component


@soundstage_component
def promote(
    config: str,
    code_version: str,
    model: dsl.Input[dsl.Artifact],
    evaluation: dsl.Input[dsl.Artifact],
    record: dsl.Output[dsl.Artifact],
) -> None:
    """Judge the candidate against the gate's rules and move the alias only if they hold."""
    from soundstage.front import run_component

    inputs = {"model": model.path, "evaluation": evaluation.path}
    record.metadata.update(run_component("promote", config, code_version, inputs, record.path))
