"""Make the pictures of README and docs from a finished run and from the procedural world.

python benchmarks/pictures.py --workspace workspace --out docs/images
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from soundstage.evaluation.samples import strip
from soundstage.media.decode import decode_clip
from soundstage.stages import Workspace
from soundstage.synth.scene import CATALOGUE, draw_scene


def results(workspace: Workspace, out: Path) -> None:
    """For each shown test clip: truth above, generated with the true sound below."""
    record = workspace.current("evaluate")
    index_file = workspace.output(record, "samples/index.json")
    rows = []
    for sample in json.loads(index_file.read_text())[:4]:
        rows += [decode_clip(index_file.parent / sample["videos"][name]).frames for name in ("truth", "true")]
    Image.fromarray(strip(rows)).quantize(128).save(out / "results.png", optimize=True)


def classes(out: Path) -> None:
    """One scene of every class of the world, two seconds at six frames a second."""
    rows = [
        draw_scene(np.random.default_rng([3, number]), kind, 2.0).frames(64, 6, 2.0)
        for number, kind in enumerate(CATALOGUE)
    ]
    Image.fromarray(strip(rows)).save(out / "classes.png", optimize=True)


def main() -> None:
    """Write both pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    results(Workspace.open(arguments.workspace), arguments.out)
    classes(arguments.out)


if __name__ == "__main__":
    main()
