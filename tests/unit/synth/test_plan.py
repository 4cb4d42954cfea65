"""The plan: kinds and numbers follow the configuration, and one kind does not disturb another."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from soundstage.config import load_config
from soundstage.config.tree import SynthConfig
from soundstage.errors import ConfigError
from soundstage.synth.plan import COPIES, DEFECTS, MIXES, Item, plan_world, planted_counts, world_classes
from soundstage.synth.scene import CATALOGUE


def plan(**settings: Any) -> list[Item]:
    return list(plan_world(SynthConfig.model_validate({"clips": 60, "defects_each": 3} | settings)))


def looks(items: list[Item]) -> set[tuple[object, ...]]:
    """All that decides what a file is like, its name left out."""
    return {(item.defect, item.label, item.seed, item.late_sec) for item in items if item.defect not in COPIES}


def test_every_kind_is_planted_as_often_as_said() -> None:
    assert Counter(item.defect for item in plan()) == {"none": 60} | dict.fromkeys(DEFECTS, 3)
    counted = planted_counts(SynthConfig(defects_each=2, planted={"shifted": 7, "silent": 0}))
    assert counted == dict.fromkeys(DEFECTS, 2) | {"shifted": 7, "silent": 0}


@pytest.mark.parametrize("mix", MIXES)
def test_a_mix_has_its_shares_of_all_files(mix: str) -> None:
    found = Counter(item.defect for item in plan(clips=1500, mix=mix))
    assert found["none"] == 1500
    for kind in DEFECTS:
        assert found[kind] / found.total() == pytest.approx(MIXES[mix].get(kind, 0.0), abs=5e-4), kind
    more = planted_counts(SynthConfig(clips=1500, mix=mix, planted={"periodic": 11}))
    assert more == {kind: found[kind] for kind in DEFECTS} | {"periodic": 11}


def test_a_further_kind_changes_no_other_file() -> None:
    few, many = plan(), plan(planted={"periodic": 40, "silent": 9})
    assert looks(few) < looks(many)


def test_names_are_unique_and_in_order() -> None:
    assert [item.uri for item in plan()] == [f"videos/{number:05d}.mp4" for number in range(60 + 3 * len(DEFECTS))]
    assert plan() == plan()
    assert looks(plan(seed=8)).isdisjoint(looks(plan()))


def test_copies_are_of_clean_files_and_share_none_while_there_are_enough() -> None:
    items = plan(defects_each=30)
    clean = {item.uri: item.label for item in items if item.defect == "none"}
    copies = [item for item in items if item.defect in COPIES]
    assert {item.original for item in copies} == set(clean)
    assert all(clean[item.original] == item.label for item in copies)
    assert not any(item.original for item in items if item.defect not in COPIES)
    assert max(Counter(item.original for item in plan(clips=2, defects_each=3) if item.original).values()) == 3


def test_shifts_lie_between_a_fifth_of_a_second_and_one() -> None:
    late = [item.late_sec for item in plan(defects_each=0, planted={"shifted": 400}) if item.defect == "shifted"]
    assert min(map(abs, late)) >= 0.2
    assert max(map(abs, late)) <= 1.0
    assert {sign > 0 for sign in late} == {True, False}
    assert sum(abs(x) < 0.4 for x in late) / 400 == pytest.approx(0.25, abs=0.07)


def test_classes_by_name() -> None:
    names = ("string", "lamp")
    assert [kind.label for kind in world_classes(SynthConfig(class_names=names))] == list(names)
    assert {item.label for item in plan(class_names=names)} == set(names)
    assert [kind.label for kind in world_classes(SynthConfig(classes=3))] == [k.label for k in CATALOGUE[:3]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"class_names": ("lampp",)}, "no class is called 'lampp'; did you mean 'lamp'", id="near-name"),
        pytest.param({"class_names": ("zzz",)}, "classes: drum, hammer", id="unknown-name"),
        pytest.param({"class_names": ("lamp", "lamp")}, "'lamp' stands there twice", id="twice"),
        pytest.param({"classes": 999}, "the catalogue has", id="too-many"),
    ],
)
def test_impossible_classes_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(**settings)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        pytest.param("synth.planted.sillent=3", "planted.sillent.*silent", id="unknown-kind"),
        pytest.param("synth.planted.silent=-1", "planted.silent.*greater than or equal to 0", id="negative"),
        pytest.param("synth.mix=wild", "mix.*mild", id="unknown-mix"),
    ],
)
def test_unknown_kinds_and_mixes_are_refused_by_name(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("micro", overrides=[override])
