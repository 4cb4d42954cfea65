"""The one wrapper of all components: image and packaging, nothing else.

A lightweight component ships the source of its function alone, so each body imports what it needs, and no module here
may say `from __future__ import annotations`: kfp reads the annotations as objects.
"""

import os
from collections.abc import Callable
from typing import Any

from kfp import dsl

# kfp's local runner wants "python" in the name of an image; clusters name theirs by digest in SOUNDSTAGE_IMAGE.
IMAGE = os.environ.get("SOUNDSTAGE_IMAGE", "soundstage-python:0.1.0")


def soundstage_component(function: Callable[..., None]) -> Any:
    """Make `function` a component that runs in the project's image; the image holds kfp and the project."""
    return dsl.component(function, base_image=IMAGE, install_kfp_package=False)
