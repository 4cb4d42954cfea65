"""Component `judge`: train the sync scorer of that role, or take a saved one."""

from kfp import dsl

from components.base import soundstage_component


@soundstage_component
def judge(
    config: str,
    code_version: str,
    inputs_digest: str,
    clips: dsl.Input[dsl.Artifact],
    record: dsl.Output[dsl.Artifact],
) -> None:
    """Train the sync scorer of role `judge`, or take a saved one."""
    from soundstage.front import run_component

    inputs = {"clips": clips.path}
    record.metadata.update(run_component("judge", config, code_version, inputs, record.path, inputs_digest))
