"""Components `validate-*`: data contracts between stages, one a record."""

from kfp import dsl

from components.base import soundstage_component


@soundstage_component
def validate_clips(
    config: str,
    code_version: str,
    clips: dsl.Input[dsl.Artifact],
    ingest: dsl.Input[dsl.Artifact],
    record: dsl.Output[dsl.Artifact],
) -> None:
    """Judge the clips record; a failed suite fails the task."""
    from soundstage.front import run_component

    inputs = {"clips": clips.path, "ingest": ingest.path}
    record.metadata.update(run_component("validate-clips", config, code_version, inputs, record.path))


@soundstage_component
def validate_signals(
    config: str,
    code_version: str,
    clips: dsl.Input[dsl.Artifact],
    signals: dsl.Input[dsl.Artifact],
    record: dsl.Output[dsl.Artifact],
) -> None:
    """Judge the signals record; a failed suite fails the task."""
    from soundstage.front import run_component

    inputs = {"clips": clips.path, "signals": signals.path}
    record.metadata.update(run_component("validate-signals", config, code_version, inputs, record.path))


@soundstage_component
def validate_selection(
    config: str,
    code_version: str,
    clips: dsl.Input[dsl.Artifact],
    selection: dsl.Input[dsl.Artifact],
    review: dsl.Input[dsl.Artifact],
    record: dsl.Output[dsl.Artifact],
) -> None:
    """Judge the selection record; a failed suite fails the task."""
    from soundstage.front import run_component

    inputs = {"clips": clips.path, "selection": selection.path, "review": review.path}
    record.metadata.update(run_component("validate-selection", config, code_version, inputs, record.path))


@soundstage_component
def validate_shards(
    config: str,
    code_version: str,
    selection: dsl.Input[dsl.Artifact],
    shards: dsl.Input[dsl.Artifact],
    record: dsl.Output[dsl.Artifact],
) -> None:
    """Judge the encoded shards; a failed suite fails the task."""
    from soundstage.front import run_component

    inputs = {"selection": selection.path, "shards": shards.path}
    record.metadata.update(run_component("validate-shards", config, code_version, inputs, record.path))
