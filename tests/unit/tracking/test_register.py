from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from soundstage.catalog import STAGES
from soundstage.config import Config, SoundstageConfig, load_config
from soundstage.config.slices import stage_slice
from soundstage.config.tree import RegistryConfig, TrackingConfig
from soundstage.data.records import CLIPS, SELECTION, write_table
from soundstage.errors import ConfigError, DataError
from soundstage.media.decode import decode_clip
from soundstage.models.animate import Animator
from soundstage.models.audio.load import feature_grids
from soundstage.models.backbones.load import new_backbone
from soundstage.models.backbones.stand_in import save_stand_in
from soundstage.models.bundle import new_adapters, save_adapter
from soundstage.stages import Execution, Outcome, StageRecord, Work, Workspace, execute
from soundstage.stages.files import write_json
from soundstage.tracking import register
from soundstage.tracking.door import Place, open_place, place_uri
from soundstage.tracking.folders import REFERENCE_FILE, resolve_model
from soundstage.tracking.lineage import comparison_key
from soundstage.tracking.observer import MlflowObserver
from soundstage.tracking.packaging import requirements
from soundstage.tracking.registry import list_versions, registered
from soundstage.tracking.request import decode_sound, encode_answer

from .test_gate import evaluation
from .test_request import png_bytes, tone, wav_bytes

Write = Callable[[Path], None]
_NUMBERS = itertools.count()


def _clip(clip_id: str, licence: str) -> dict[str, Any]:
    values = {field.name: "x" if str(field.type) == "string" else 1 for field in CLIPS}
    return values | {"clip_id": clip_id, "licence": licence}


def _write_clips(out: Path) -> None:
    clips = [_clip("a", "CC-BY-4.0"), _clip("b", "CC0-1.0"), _clip("c", "CC0-1.0"), _clip("t", "proprietary")]
    write_table(out / "clips.parquet", CLIPS, clips, ["clip_id"])


def _write_selection(out: Path) -> None:
    uses = {"a": "pretrain", "b": "finetune", "c": "pretrain", "t": "test"}
    rows = [
        {"clip_id": clip, "use": use, "reasons": "", "weight": 1.0, "audio_shift_sec": 0.0}
        for clip, use in uses.items()
    ]
    write_table(out / "selection.parquet", SELECTION, rows, ["clip_id"])


def _evaluation_writer(true_mean: float, clip_ids: tuple[str, ...] = ("t1", "t2")) -> Write:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def write(out: Path) -> None:
        write_json(out / "evaluation.json", evaluation(true=true_mean))
        rows = [{"clip_id": c, "label": "x", "condition": "true", "motion_corr": true_mean} for c in clip_ids]
        pq.write_table(pa.Table.from_pylist(rows), out / "scores.parquet")

    return write


class Trained:
    """A workspace with records of all stages before `register`; the model is real, tiny and untrained."""

    def __init__(self, workspace: Workspace, tracking: TrackingConfig) -> None:
        self.workspace = workspace
        model_name = RegistryConfig(name="animator")
        base = load_config("micro")
        self.config: SoundstageConfig = base.model_copy(update={"tracking": tracking, "registry": model_name})
        self.records: dict[str, StageRecord] = {}
        for stage in ("ingest", "encode", "pretrain"):
            self.stage(stage, lambda out: None)
        self.stage("split", _write_clips)
        self.stage("select", _write_selection)
        self.stage("backbone", self._write_backbone)
        self.stage("finetune", self._write_adapter)
        self.stage("evaluate", _evaluation_writer(0.8))

    def stage(self, stage: str, write: Write, notes: Mapping[str, str] | None = None) -> StageRecord:
        def function(config: Config, inputs: Mapping[str, StageRecord], work: Work) -> Outcome:
            write(work.out)
            return Outcome(notes=notes or {})

        inputs = {"backbone": self.records["backbone"]} if stage == "finetune" else {}
        options: dict[str, Any] = {"code_version": f"x{next(_NUMBERS)}"}  # so that no result replaces another
        self.records[stage] = execute(stage, function, Config(), inputs, self.workspace, **options).record
        return self.records[stage]

    def _write_backbone(self, out: Path) -> None:
        self.backbone = new_backbone(self.config.model.backbone, seed=0)
        save_stand_in(self.backbone, out / "backbone")

    def _write_adapter(self, out: Path) -> None:
        torch.manual_seed(1)
        adapters = new_adapters(self.backbone, feature_grids(self.config.model.audio), self.config.model)
        for parameter in adapters.parameters():  # an adapter as it starts adds nothing; this one shall be heard
            torch.nn.init.normal_(parameter, std=0.5)
        save_adapter(out / "adapter", adapters, self.backbone, self.config.model, self.config.window, "finetune")

    def register(self, records: Mapping[str, StageRecord] | None = None, observer: Any = None) -> Execution:
        known = records or self.records
        inputs = {name: known[stage] for name, stage in STAGES["register"].inputs.items()}
        slice_ = stage_slice("register", self.config)
        options: dict[str, Any] = {"code_version": "x", "cacheable": False, "observer": observer}
        return execute("register", register.run, slice_, inputs, self.workspace, **options)

    def model(self, execution: Execution) -> dict[str, Any]:
        return dict(json.loads(self.workspace.output(execution.record, "model.json").read_text()))


@pytest.fixture(scope="module")
def trained(home: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    uri = place_uri(home, TrackingConfig())
    tracking = TrackingConfig(uri=uri, experiment="register", system_metrics=False)
    return Trained(Workspace.open(tmp_path_factory.mktemp("trained")), tracking)


@pytest.fixture
def fresh(trained: Trained, name: str) -> Trained:
    """The trained model with a registered model of this test alone."""
    copy = object.__new__(Trained)
    copy.__dict__ = dict(trained.__dict__)
    copy.records = dict(trained.records)
    copy.config = trained.config.model_copy(update={"registry": RegistryConfig(name=name[:60])})
    return copy


@pytest.fixture
def trained_place(trained: Trained) -> Place:
    return open_place(trained.workspace, trained.config.tracking)


_FRESH_PROCESS = """
    import sys
    import mlflow
    import pandas as pd
    from pathlib import Path

    uri, model, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    mlflow.set_tracking_uri(uri)
    loaded = mlflow.pyfunc.load_model(model)
    row = {"image": [(folder / "image.png").read_bytes()], "audio": [(folder / "sound.wav").read_bytes()]}
    answer = loaded.predict(pd.DataFrame(row | {"caption": ["a drum"]}), params={"seed": 5, "num_inference_steps": 3})
    (folder / "answer.mp4").write_bytes(answer["video"][0])
    import soundstage
    print(soundstage.__file__)
"""


def test_registered_model_animates_in_a_fresh_process(fresh: Trained, trained_place: Place, tmp_path: Path) -> None:
    model = fresh.model(fresh.register())
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    (tmp_path / "image.png").write_bytes(png_bytes(pixels))
    (tmp_path / "sound.wav").write_bytes(wav_bytes(tone(2.0, 22050)[None], 22050))
    command = [sys.executable, "-c", textwrap.dedent(_FRESH_PROCESS)]
    alias = f"models:/{model['name']}@candidate"
    arguments = [trained_place.uri, alias, str(tmp_path)]
    done = subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # The code that ran is the version's own copy, not the one installed here.
    assert Path(done.stdout.split()[-1]).parts[-3:] == ("code", "soundstage", "__init__.py")

    folders = resolve_model(fresh.workspace, fresh.config.tracking, alias)
    animator = Animator.load(folders.backbone, folders.adapter)
    options: dict[str, Any] = {"seed": 5, "num_inference_steps": 3, "audio_guidance_scale": 1.0}
    # As read back: 16 bits of rounding change the silent bands of a log-mel spectrogram a good deal.
    sound, rate = decode_sound((tmp_path / "sound.wav").read_bytes())
    frames = animator.animate(pixels, sound, rate, "a drum", **options)
    (tmp_path / "expected.mp4").write_bytes(encode_answer(frames, animator.fps, sound, rate))
    got, expected = decode_clip(tmp_path / "answer.mp4"), decode_clip(tmp_path / "expected.mp4")
    window = fresh.config.window
    assert got.frames.shape == (window.num_frames, window.size, window.size, 3)
    assert got.fps == Fraction(window.fps)
    # One level of 255 on average: sampling may run on another number of threads there.
    assert np.abs(got.frames.astype(int) - expected.frames).mean() < 1.0
    assert np.abs(got.waveform).max() > 0.3


def test_version_says_what_it_is_made_of(fresh: Trained, trained_place: Place) -> None:
    observer = MlflowObserver(fresh.workspace, fresh.config.tracking)
    execution = fresh.register(observer=observer)
    model = fresh.model(execution)
    (version,) = registered(fresh.workspace, fresh.config.tracking, model["name"])
    assert (version.version, version.aliases, version.run_id) == ("1", ("candidate",), execution.run_id)
    assert (model["version"], model["aliases"], model["model_uri"]) == ("1", ["candidate"], version.uri)
    for stage in ("ingest", "split", "select", "encode", "backbone", "pretrain", "finetune", "evaluate"):
        assert version.tags[f"soundstage.stage.{stage}"] == fresh.records[stage].digest
    assert json.loads(version.tags["soundstage.licences"]) == {"CC-BY-4.0": 1, "CC0-1.0": 2}
    share = json.loads((_payload(fresh, "finetune") / "adapter/adapter.json").read_text())["trainable_share"]
    assert model["trainable_share"] == execution.record.metrics["trainable_share"] == share
    run = trained_place.client.get_run(str(execution.run_id))
    assert run.info.status == "FINISHED"
    assert run.data.metrics["motion_corr.true.mean"] == 0.8
    logged = trained_place.client.get_logged_model(run.outputs.model_outputs[0].model_id)
    linked = {metric.key: metric.value for metric in logged.metrics}
    assert linked["motion_corr.true.mean"] == 0.8
    assert linked["paired.stage_two_minus_stage_one.mean"] == 0.01


def test_version_bundles_the_stand_in_and_pins_what_is_installed(fresh: Trained) -> None:
    model = fresh.model(fresh.register())
    folders = resolve_model(fresh.workspace, fresh.config.tracking, model["model_uri"])
    assert folders.origin == model["model_uri"]
    assert folders.adapter is not None
    assert (folders.backbone / "transformer" / "config.json").exists()
    pins = (folders.backbone.parents[1] / "requirements.txt").read_text().split()
    assert {f"torch=={torch.__version__.partition('+')[0]}"} <= {pin.partition("+")[0] for pin in pins}
    assert set(requirements()) <= set(pins)
    assert not any(pin.startswith(("pytest", "ruff", "mypy")) for pin in pins)


def _payload(trained: Trained, stage: str) -> Path:
    return trained.workspace.resolve(trained.records[stage].payload)


def test_registering_the_same_model_again_creates_nothing(fresh: Trained, trained_place: Place) -> None:
    first = fresh.register()
    again = fresh.register()
    assert fresh.model(again) == fresh.model(first)
    assert again.record.content == first.record.content
    assert (first.record.counts["versions_created"], again.record.counts["versions_created"]) == (1, 0)
    assert "reused" in again.record.notes["registry"]
    assert len(list_versions(trained_place, fresh.config.registry.name)) == 1


def test_another_evaluation_makes_another_version_and_moves_candidate(fresh: Trained, trained_place: Place) -> None:
    first = fresh.model(fresh.register())
    fresh.stage("evaluate", _evaluation_writer(0.7))
    second = fresh.model(fresh.register())
    fresh.stage("evaluate", _evaluation_writer(0.7, ("t1", "t3")))
    third = fresh.model(fresh.register())
    assert [m["version"] for m in (first, second, third)] == ["1", "2", "3"]
    assert first["comparable"] == second["comparable"] != third["comparable"]
    newest, *older = list_versions(trained_place, fresh.config.registry.name)
    assert newest.aliases == ("candidate",)
    assert all(version.aliases == () for version in older)


def test_evaluations_compare_when_protocol_and_clips_are_equal(tmp_path: Path) -> None:
    _evaluation_writer(0.8)(tmp_path / "a")
    _evaluation_writer(0.3, ("t2", "t1"))(tmp_path / "b")
    _evaluation_writer(0.8, ("t1", "t3"))(tmp_path / "c")

    def key(folder: str, **protocol: Any) -> str:
        return comparison_key(
            {"protocol": {"seed": 0, "samples_shown": 6} | protocol}, tmp_path / folder / "scores.parquet"
        )

    assert key("a") == key("b") == key("a", samples_shown=0)
    assert len({key("a"), key("c"), key("a", seed=1)}) == 3


def test_skipped_stage_two_reaches_the_gate(fresh: Trained) -> None:
    note = {"stage_two": "skipped: no clip was reviewed"}
    fresh.stage("finetune", lambda out: _copy_payload(fresh, "finetune", out), note)
    assert fresh.model(fresh.register())["stage_two"] == note["stage_two"]


def _copy_payload(trained: Trained, stage: str, out: Path) -> None:
    shutil.copytree(_payload(trained, stage) / "adapter", out / "adapter")


def test_adapter_of_another_backbone_is_refused(fresh: Trained) -> None:
    other = new_backbone(fresh.config.model.backbone, seed=9)
    fresh.stage("backbone", lambda out: save_stand_in(other, out / "backbone"))
    with pytest.raises(DataError, match="was trained on backbone"):
        fresh.register()


def test_bundled_backbone_that_was_exchanged_is_refused(fresh: Trained, tmp_path: Path) -> None:
    model = fresh.model(fresh.register())
    folders = resolve_model(fresh.workspace, fresh.config.tracking, model["model_uri"])
    copy = tmp_path / "model"
    shutil.copytree(folders.backbone.parents[1], copy)
    reference = json.loads((copy / "artifacts" / REFERENCE_FILE).read_text())
    assert reference["pretrained"] is None
    resolve_model(fresh.workspace, fresh.config.tracking, str(copy))
    shutil.rmtree(copy / "artifacts" / "backbone")
    other = new_backbone(fresh.config.model.backbone, seed=9)
    save_stand_in(other, copy / "artifacts" / "backbone")
    with pytest.raises(DataError, match=f"registered with {reference['fingerprint']}"):
        resolve_model(fresh.workspace, fresh.config.tracking, str(copy))


def test_payloads_are_models_too(fresh: Trained) -> None:
    folders = resolve_model(fresh.workspace, fresh.config.tracking, str(_payload(fresh, "finetune")))
    assert folders.backbone == _payload(fresh, "backbone") / "backbone"
    assert folders.adapter == _payload(fresh, "finetune") / "adapter"
    alone = resolve_model(fresh.workspace, fresh.config.tracking, str(_payload(fresh, "backbone")))
    assert (alone.backbone, alone.adapter) == (folders.backbone, None)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("models:/animator", "not of the form"),
        ("models:/nobody@champion", "there is no model called nobody"),
        ("models:/{name}@champion", r"versions of .*: 1 \(candidate\)"),
        ("models:/{name}/7", r"versions of .*: 1 \(candidate\)"),
        ("no/such/folder", "is no folder"),
    ],
)
def test_model_that_is_not_there_is_named(fresh: Trained, reference: str, message: str) -> None:
    fresh.register()
    with pytest.raises(ConfigError, match=message):
        resolve_model(fresh.workspace, fresh.config.tracking, reference.format(name=fresh.config.registry.name))


def test_folder_without_a_model_is_refused(fresh: Trained, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"found: notes\.txt"):
        resolve_model(fresh.workspace, fresh.config.tracking, str(tmp_path))


def test_version_whose_files_are_gone_is_registered_anew(fresh: Trained) -> None:
    model = fresh.model(fresh.register())
    folders = resolve_model(fresh.workspace, fresh.config.tracking, model["model_uri"])
    shutil.rmtree(folders.backbone.parents[1])
    with pytest.raises(ConfigError, match="its files are gone"):
        resolve_model(fresh.workspace, fresh.config.tracking, model["model_uri"])
    again = fresh.register()
    assert fresh.model(again)["version"] == "2"
    assert "registered anew" in again.record.notes["registry"]
