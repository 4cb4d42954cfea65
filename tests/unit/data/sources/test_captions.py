"""Where captions come from, and when there is none."""

from __future__ import annotations

import pytest

from soundstage.data.sources.captions import annotate, label_from_name


@pytest.mark.parametrize(
    ("uri", "label"),
    [
        ("a/Dog_bark-02.mp4", "dog bark"),
        ("Über den Fluss.mp4", "über den fluss"),
        ("animals/dogs/0001.mp4", "dogs"),
        ("dogs/2024/0001.mp4", "dogs"),
        ("20240101_123.mp4", ""),
        (".mp4", ""),
        (".dog.mp4", "dog"),
    ],
)
def test_labels_from_names(uri: str, label: str) -> None:
    assert label_from_name(uri) == label


@pytest.mark.parametrize(
    ("words", "label", "expected"),
    [
        ({"caption": "a dog barks", "label": "dog"}, "", ("dog", "a dog barks", "source")),
        ({"caption": "a dog barks"}, "", ("", "a dog barks", "source")),
        ({"label": "dog"}, "cat", ("dog", "a video of dog with its sound", "label_template")),
        ({"label": ""}, "cat", ("cat", "a video of cat with its sound", "label_template")),
        ({}, "", ("", "", "label_template")),
    ],
    ids=["both", "caption alone", "label", "label from elsewhere", "neither"],
)
def test_captions_go_before_labels(words: dict[str, str], label: str, expected: tuple[str, str, str]) -> None:
    found = annotate(words, "CC0-1.0", label)
    assert (found.label, found.caption, found.caption_from) == expected
    assert (found.licence, found.provenance) == ("CC0-1.0", "unknown")
