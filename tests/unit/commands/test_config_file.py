"""The self-explaining configuration file gives back the tree it was written from."""

from __future__ import annotations

import pytest

from soundstage.commands import config_file
from soundstage.config import load_config


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["model.adapter.window_sec=.inf", "pretrain.learning_rate=1.0e-7"],
        ["ingest.source='/data/with: colon # and hash'", "ingest.licence='yes'"],
        ["split.open_classes=[drum, 'a, b', null_class]", "model.backbone.pretrained=org/model"],
        ["trial=true", "registry.name='007'"],
    ],
)
def test_written_file_gives_the_same_tree(overrides, tmp_path):
    tree = load_config("micro", overrides=overrides)
    path = tmp_path / "soundstage.yaml"
    path.write_text(config_file.render(tree, "head"))
    assert load_config(file=path) == tree
    assert load_config(file=path).canonical_json() == tree.canonical_json()


def test_keys_are_explained():
    text = config_file.render(load_config("tiny"), "What this is.")
    assert text.startswith("# What this is.\n")
    assert "  max_cuts: 0  # clips with more cuts are dropped `cut`\n" in text
    assert "# Windowed audio cross-attention" in text
