"""Captions and labels: from the source where it has them, else the label by a template, else there is none."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from .item import Annotation

CAPTION_TEMPLATE = "a video of {label} with its sound"
UNKNOWN = "unknown"
NO_CAPTION = "the source states neither a caption nor a label for it; add a `caption` or a `label`"


def annotate(words: Mapping[str, str], licence: str, label: str = "") -> Annotation:
    """The annotation of an item from the words of its row; `label` stands in where the row has none."""
    label = words.get("label") or label
    caption = words.get("caption", "")
    return Annotation(
        label=label,
        caption=caption or (CAPTION_TEMPLATE.format(label=label) if label else ""),
        caption_from="source" if caption else "label_template",
        licence=words.get("licence") or licence,
        provenance=words.get("provenance") or UNKNOWN,
    )


def label_from_name(uri: str) -> str:
    """Words of a file name in lower case, numbers left out: `a/Dog_bark-02.mp4` is `dog bark`.

    A name without words takes those of its nearest folder that has some: `dogs/0001.mp4` is `dogs`. Empty if none has.
    """
    path = PurePosixPath(uri)
    # A hidden file such as `.mp4` has no stem of its own in pathlib's eyes.
    stem = os.path.splitext(f"x{path.name}")[0][1:]  # noqa: PTH122
    for part in (stem, *reversed(path.parts[:-1])):
        words = re.findall(r"[^\W\d_]+", part.lower())
        if words:
            return " ".join(words)
    return ""
