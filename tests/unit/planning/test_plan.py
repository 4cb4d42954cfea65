"""A plan that fits, one that something else would make fit, and one that nothing would."""

from __future__ import annotations

import pytest

from soundstage.config import load_config
from soundstage.errors import ConfigError
from soundstage.planning.calibration import Calibration, load_calibration
from soundstage.planning.figures import GIB
from soundstage.planning.plan import Plan, make_plan, plan_report

MICRO = ["pretrain.global_batch=8", "pretrain.micro_batch=4"]


def _calibration(memory_gb: float) -> Calibration:
    """A GPU of so much memory, of which the framework takes nothing."""
    whole = load_calibration()
    gpu = whole.gpu("h100").model_copy(update={"memory_gb": memory_gb})
    nothing = {"overhead_gib": 0.0, "audio_parameters": 0.0}
    return whole.model_copy(update={"gpus": {"small": gpu}, **nothing})


def _plan(memory_gb: float, *overrides: str, gpus: int = 2) -> Plan:
    config = load_config("micro", overrides=[*MICRO, *overrides])
    return make_plan(config, clips=100, gpus=gpus, gpu_name="small", calibration=_calibration(memory_gb))


@pytest.fixture(scope="module")
def roomy() -> Plan:
    return _plan(1.0)


def test_what_fits_is_told_with_the_origin_of_every_number(roomy: Plan) -> None:
    assert roomy.fits
    report = plan_report(roomy)
    assert list(report["stages"]) == ["backbone", "pretrain", "finetune"]
    assert report["storage"]["samples"]["value"] == 200  # two windows of each clip
    assert report["storage"]["shards"]["value"] == 13  # of 16 samples each
    stage = report["stages"]["pretrain"]
    assert stage["proposals"] == []
    figures = [*stage["gpu_memory"].values(), *stage["time"].values(), *report["storage"].values()]
    assert {each["origin"] for each in figures} == {"counted", "assumed"}
    parts = [each["value"] for name, each in stage["gpu_memory"].items() if name != "all"]
    assert sum(parts) == pytest.approx(stage["gpu_memory"]["all"]["value"])


def test_proposals_fit_when_they_are_set_and_the_fastest_comes_first(roomy: Plan) -> None:
    needed = {stage.stage: stage.configured.bytes for stage in roomy.stages}
    limit_gb = 0.7 * needed["pretrain"] / 1e9
    plan = _plan(limit_gb)
    assert not plan.fits
    (stage,) = [each for each in plan.stages if each.stage == "pretrain"]
    assert stage.proposals
    times = [each.pace.step for each in stage.proposals]
    assert times[0] <= min(times) * 1.01
    assert all(each.bytes <= limit_gb * 1e9 for each in stage.proposals)
    again = _plan(limit_gb, *stage.overrides(stage.proposals[0]))
    (changed,) = [each for each in again.stages if each.stage == "pretrain"]
    assert changed.fits
    assert changed.configured.bytes == pytest.approx(stage.proposals[0].bytes)


def test_where_nothing_fits_the_least_is_told() -> None:
    plan = _plan(1e-4)
    for stage in plan.stages:
        assert stage.proposals == ()
        assert 1e5 < stage.least.bytes < stage.configured.bytes < GIB


def test_memory_is_that_of_the_largest_bucket(roomy: Plan) -> None:
    wide = _plan(1.0, "encode.buckets=[{num_frames: 6, size: 32, width: 32}]")
    for before, after in zip(roomy.stages, wide.stages, strict=True):
        assert after.configured.bytes > before.configured.bytes
        assert after.configured.pace == before.configured.pace


@pytest.mark.parametrize(
    ("overrides", "gpus", "message"),
    [
        ([], 3, r"backbone\.global_batch=4 does not divide among --gpus 3; set backbone\.global_batch=6"),
        (["pretrain.global_batch=12"], 2, r"micro_batch=4 does not divide the 6 samples of a rank .* 1, 2, 3, 6"),
    ],
)
def test_what_cannot_be_divided_is_refused(overrides: list[str], gpus: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _plan(1.0, *overrides, gpus=gpus)
