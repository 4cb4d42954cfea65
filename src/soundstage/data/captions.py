"""Text embeddings of distinct captions in one file: stored small, given back bit for bit.

Families pad to hundreds of tokens: Wan's 512 x 4096 numbers are 8 MiB a caption in float32, twenty times the latents of
its window. What is stored leaves out nothing:

embeddings  (sum of lengths, D): of each caption the rows up to the last that is not zero. Wan's padding is zero;
            LTX-Video and CogVideoX show theirs to the transformer, and all of it is kept. bfloat16 where that loses no
            bit, as of encoders that run in it; else float32.
ends        (N,) int64: where each caption's rows end.
mask        (N, L) bool: False on padding.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ..stages.files import atomic_path, sha256_text

CAPTIONS_PER_PART = 256

Embed = Callable[[str], tuple[torch.Tensor, torch.Tensor]]
"""from a caption to its embedding (L, D) float32 and mask (L,)"""


def write_captions(path: Path, captions: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Write embeddings (L, D) float32 and masks (L,) of distinct captions, of which there is one at least."""
    rows, masks = [], []
    for embedding, mask in captions:
        rows.append(_narrow(embedding[: _last_row(embedding)].contiguous()))
        masks.append(mask)
    # Concatenation takes the wider type: one caption that needs float32 makes all float32.
    ends = torch.tensor([len(each) for each in rows], dtype=torch.int64).cumsum(0)
    with atomic_path(path) as temporary:
        save_file({"embeddings": torch.cat(rows), "ends": ends, "mask": torch.stack(masks)}, temporary)


def embed_captions(
    captions: Sequence[str], embed: Embed, folder: Path, made_with: str
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """What `embed` gives for each caption, in their order; what was embedded before in `folder` is read from there.

    Parts of `CAPTIONS_PER_PART` captions are kept in `folder`, each under the hash of its captions and of `made_with`,
    which tells of the text encoder and its settings. One caption is in memory at its full length.
    """
    for first in range(0, len(captions), CAPTIONS_PER_PART):
        part = captions[first : first + CAPTIONS_PER_PART]
        path = folder / f"{sha256_text(json.dumps([made_with, *part]))}.safetensors"
        if not path.exists():
            write_captions(path, map(embed, part))
        yield from map(CaptionStore(path, part).read, part)


def _last_row(embedding: torch.Tensor) -> int:
    """How many rows there are up to the last that is not all zeros."""
    filled = embedding.ne(0).any(dim=1).nonzero()
    return int(filled[-1]) + 1 if len(filled) else 0


def _narrow(embedding: torch.Tensor) -> torch.Tensor:
    """The same numbers in half as many bytes, if there are such."""
    half = embedding.to(torch.bfloat16)
    return half if torch.equal(half.float(), embedding) else embedding.clone()


class CaptionStore:
    """Embeddings by caption; the file is mapped, so that those which are asked for are in memory."""

    def __init__(self, path: Path, captions: Sequence[str]) -> None:
        self._index = {caption: index for index, caption in enumerate(captions)}
        stored = load_file(path)
        self._embeddings, self._masks = stored["embeddings"], stored["mask"]
        self._ends = [0, *stored["ends"].tolist()]

    def read(self, caption: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Embedding (L, D) float32 and mask (L,) of a caption.

        Raises:
            KeyError: it was not stored.
        """
        index = self._index[caption]
        rows, mask = self._embeddings[self._ends[index] : self._ends[index + 1]], self._masks[index]
        embedding = torch.zeros(len(mask), rows.shape[1])
        embedding[: len(rows)] = rows
        return embedding, mask
