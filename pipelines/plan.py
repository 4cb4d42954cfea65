"""What a submission fixes: the slice, the code and the outside digest of every stage; and what follows from it.

A stage's work is named by exactly these and by the content of its inputs, so the records of a run can be found in the
workspace whoever made them: this run, an earlier one, the command line, or Kubeflow's cache.
"""

from __future__ import annotations

from dataclasses import dataclass

from soundstage.catalog import STAGES, external_digest
from soundstage.config import Config, SoundstageConfig
from soundstage.stages import StageRecord, Workspace
from soundstage.stages.execute import stage_digest

OUTSIDE = {
    "ingest": "ingest_listing",
    "review": "review_ledger",
    "curator": "curator_saved",
    "judge": "judge_saved",
    "encode": "encode_checkpoint",
    "backbone": "backbone_checkpoint",
}
"""Parameter of the pipeline that holds the digest of what a stage reads beside records."""


@dataclass(frozen=True)
class Plan:
    """Everything of a submission that a result depends on, by stage."""

    slices: dict[str, Config]
    code_versions: dict[str, str]
    external: dict[str, str]

    @staticmethod
    def of(config: SoundstageConfig, workspace: Workspace) -> Plan:
        """The plan of `config`; lists sources and reads the ledger to take their digests.

        Raises:
            DataError: the source folder cannot be listed.
        """
        slices = {name: stage.slice_of(config) for name, stage in STAGES.items()}
        return Plan(
            slices=slices,
            code_versions={name: stage.code_version() for name, stage in STAGES.items()},
            external={name: external_digest(stage, slices[name], workspace) for name, stage in STAGES.items()},
        )

    def arguments(self) -> dict[str, str]:
        """Parameters of the training pipeline."""
        values = {parameter: self.external[name] for name, parameter in OUTSIDE.items()}
        for name, stage in STAGES.items():
            # The four contracts are one step with one slice and one module, hence one pair of parameters.
            prefix = stage.slice_name or name
            values[f"{prefix}_config"] = self.slices[name].canonical_json()
            values[f"{prefix}_code"] = self.code_versions[name]
        return values

    def results(self, workspace: Workspace) -> dict[str, StageRecord]:
        """Records of this plan's work that exist in `workspace`, as far as inputs are known."""
        found: dict[str, StageRecord] = {}
        for name, stage in STAGES.items():
            if not set(stage.inputs.values()) <= set(found):
                continue
            inputs = {role: found[source] for role, source in stage.inputs.items()}
            digest = stage_digest(name, self.slices[name], self.code_versions[name], inputs, self.external[name])
            path = workspace.payload(name, digest) / "record.json"
            if path.exists():
                found[name] = StageRecord.load(path)
        return found
