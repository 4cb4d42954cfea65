"""The compiled pipeline: its bytes are the golden ones, and its wires are those of the catalogue."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import yaml

from pipelines.compile import PIPELINE, ROOT, generated, training_yaml
from pipelines.plan import OUTSIDE
from soundstage.catalog import STAGES
from soundstage.commands.dvc_file import GATES


@pytest.fixture(scope="module")
def compiled() -> dict:
    return yaml.safe_load(training_yaml())


def test_generated_files_are_what_the_code_gives():
    stale = [name for name, text in generated() if (ROOT / name).read_text() != text]
    assert not stale, "run `make compile` and commit the result"


def test_compiled_bytes_do_not_depend_on_hash_order():
    code = "from pipelines.compile import training_yaml; print(training_yaml(), end='')"
    environment = os.environ | {"PYTHONHASHSEED": "123"}
    other = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert other.stdout == (ROOT / PIPELINE).read_text()


def test_every_stage_is_a_task_with_the_inputs_of_the_catalogue(compiled):
    tasks = compiled["root"]["dag"]["tasks"]
    wired = {
        name: {
            role: source["taskOutputArtifact"]["producerTask"]
            for role, source in task["inputs"].get("artifacts", {}).items()
        }
        for name, task in tasks.items()
    }
    assert wired == {name: dict(stage.inputs) for name, stage in STAGES.items()}


def test_only_uncacheable_stages_run_each_time(compiled):
    tasks = compiled["root"]["dag"]["tasks"]
    cached = {name for name, task in tasks.items() if task["cachingOptions"].get("enableCache")}
    assert cached == {name for name, stage in STAGES.items() if stage.cacheable}


def test_every_contract_gates_all_that_works_on_the_record_after_it(compiled):
    tasks = compiled["root"]["dag"]["tasks"]

    def waits_for(task: str) -> set[str]:
        direct = set(tasks[task].get("dependentTasks", []))
        return direct.union(*(waits_for(name) for name in direct))

    assert "validate-clips" in waits_for("score")
    assert {"validate-clips", "validate-signals"} <= waits_for("select")
    for stage, gate in GATES.items():
        assert gate in tasks[stage]["dependentTasks"], "DVC and Kubeflow wait for the same contracts"
    gates = {name for name in STAGES if name.startswith("validate-")}
    assert gates - {"validate-shards"} <= waits_for("encode")
    for stage in ("backbone", "pretrain", "finetune", "evaluate", "register", "promote"):
        assert gates <= waits_for(stage)


def test_each_task_gets_the_parameters_named_after_its_stage(compiled):
    for name, task in compiled["root"]["dag"]["tasks"].items():
        prefix = STAGES[name].slice_name or name
        parameters = {key: value["componentInputParameter"] for key, value in task["inputs"]["parameters"].items()}
        expected = {"config": f"{prefix}_config", "code_version": f"{prefix}_code"}
        if name in OUTSIDE:
            expected["inputs_digest"] = OUTSIDE[name]
        assert parameters == expected
