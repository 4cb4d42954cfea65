"""Component `evaluate`: generate the test clips under all conditions and measure them."""

from kfp import dsl

from components.base import soundstage_component


@soundstage_component
def evaluate(
    config: str,
    code_version: str,
    clips: dsl.Input[dsl.Artifact],
    selection: dsl.Input[dsl.Artifact],
    judge: dsl.Input[dsl.Artifact],
    backbone: dsl.Input[dsl.Artifact],
    pretrain: dsl.Input[dsl.Artifact],
    finetune: dsl.Input[dsl.Artifact],
    record: dsl.Output[dsl.Artifact],
) -> None:
    """Generate the test clips under all conditions and measure them."""
    from soundstage.front import run_component

    inputs = {
        "clips": clips.path,
        "selection": selection.path,
        "judge": judge.path,
        "backbone": backbone.path,
        "pretrain": pretrain.path,
        "finetune": finetune.path,
    }
    record.metadata.update(run_component("evaluate", config, code_version, inputs, record.path))
