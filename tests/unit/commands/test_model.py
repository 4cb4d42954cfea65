"""`soundstage model`: JSON that a program reads, tables that a person reads, and an exit code that a script reads."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from soundstage import cli
from soundstage.config import preset_names


def _model(*arguments: str):
    return CliRunner().invoke(cli.build(), ["model", *arguments])


@pytest.fixture(scope="module")
def listed() -> list[dict]:
    done = _model("list", "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_list_tells_of_every_preset_within_its_budget(listed) -> None:
    assert [report["preset"] for report in listed] == preset_names()
    for report in listed:
        assert 0 < report["trainable_share"] <= report["max_share"] == 0.019
        assert report["within_budget"]
        assert report["backbone"]["licence"] not in ("", "unknown")


@pytest.mark.parametrize("name", ["ltx-video-2b", "micro"])
def test_info_is_the_same_report(listed, name) -> None:
    done = _model("info", "--preset", name, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report == next(each for each in listed if each["preset"] == name)
    assert set(report["breakdown"]) == {"projector", "attentions", "low_rank"}
    assert sum(report["breakdown"].values()) == report["trainable_parameters"]
    assert report["trainable_share"] == report["trainable_parameters"] / report["backbone"]["parameters"]


def test_tables_say_what_a_person_asks_first(listed) -> None:
    lines = _model("list").stdout.splitlines()
    for report in listed:
        (line,) = [line for line in lines if line.split()[0] == report["preset"]]
        assert f"{report['trainable_share']:.2%}" in line
        assert ("experimental" in line) == report["backbone"]["experimental"]
        assert report["backbone"]["licence"] in line
    done = _model("info", "--preset", "wan2.1-t2v-1.3b")
    assert done.exit_code == 0, done.output
    for words in (
        "experimental: the checkpoint was not trained for it",
        "1,418,996,800 parameters",
        "9 latent frames, 14040 tokens",
        "whisper",
        "low_rank",
    ):
        assert words in done.stdout


def test_a_breach_of_the_budget_is_told_and_exits_2() -> None:
    done = _model("info", "--preset", "ltx-video-2b", "--json", "--set", "model.adapter.inner_dim=512")
    assert done.exit_code == 2
    report = json.loads(done.stdout)
    assert not report["within_budget"]
    assert f"adapters have {report['trainable_parameters']} parameters" in done.stderr
    assert "allowed are 1.90%: lower model.adapter.inner_dim" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--preset", "wan2.1-t2v-13b"), "did you mean wan2.1-t2v-1.3b?"),
        (("--preset", "ltx-video-2b", "--set", "window.num_frames=50"), "take 49 or 57"),
        (("--preset", "ltx-video-2b", "--set", "window.size=520"), "needs a multiple of 32"),
        (("--preset", "ltx-video-2b", "--set", "model.backbone.pretrained=a/b"), "no release whose shape is known"),
    ],
    ids=["near name", "frames", "size", "unknown checkpoint"],
)
def test_refusals_name_the_remedy(arguments, message) -> None:
    done = _model("info", *arguments)
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())


def test_without_a_preset_the_workspace_speaks(tmp_path) -> None:
    (tmp_path / "soundstage.yaml").write_text("preset: micro\nmodel: {adapter: {audio_dim: 5}}\n")
    done = _model("info", "--workspace", str(tmp_path), "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["adapter"]["audio_dim"] == 5
