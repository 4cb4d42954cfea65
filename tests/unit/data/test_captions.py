"""Embeddings come back bit for bit, whatever was left out of the file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from soundstage.data.captions import CAPTIONS_PER_PART, CaptionStore, embed_captions, write_captions

LENGTHS = [1, 5, 0, 8]


def embeddings(kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Four captions of up to eight tokens, width 6, and masks."""
    generator = torch.Generator().manual_seed(3)
    mask = torch.arange(8)[None] < torch.tensor(LENGTHS)[:, None]
    found = torch.randn(4, 8, 6, generator=generator)
    if kind != "visible padding":
        found = found * mask[..., None]
    return (found.bfloat16().float() if kind == "bfloat16" else found), mask


@pytest.mark.parametrize(
    ("kind", "rows", "dtype"),
    [
        ("zero padding", sum(LENGTHS), torch.float32),
        ("bfloat16", sum(LENGTHS), torch.bfloat16),
        ("visible padding", 4 * 8, torch.float32),
    ],
)
def test_what_is_left_out_is_put_back(tmp_path: Path, kind: str, rows: int, dtype: torch.dtype) -> None:
    found, mask = embeddings(kind)
    write_captions(tmp_path / "t.safetensors", zip(found, mask, strict=True))
    stored = load_file(tmp_path / "t.safetensors")["embeddings"]
    assert (stored.shape, stored.dtype) == ((rows, 6), dtype)
    store = CaptionStore(tmp_path / "t.safetensors", "abcd")
    for index, caption in enumerate("abcd"):
        embedding, seen = store.read(caption)
        assert embedding.dtype == torch.float32
        assert torch.equal(embedding, found[index])
        assert torch.equal(seen, mask[index])
    with pytest.raises(KeyError):
        store.read("e")


def test_one_caption_that_needs_all_its_bits_keeps_them(tmp_path: Path) -> None:
    found, mask = embeddings("bfloat16")
    found[1, 0, 0] = 1 + 2**-20
    write_captions(tmp_path / "t.safetensors", zip(found, mask, strict=True))
    store = CaptionStore(tmp_path / "t.safetensors", "abcd")
    assert all(torch.equal(store.read(caption)[0], found[index]) for index, caption in enumerate("abcd"))


def test_zeros_between_tokens_are_no_padding(tmp_path: Path) -> None:
    found, mask = embeddings("zero padding")
    found[3, 2:7] = 0
    write_captions(tmp_path / "t.safetensors", zip(found, mask, strict=True))
    assert torch.equal(CaptionStore(tmp_path / "t.safetensors", "abcd").read("d")[0], found[3])


def test_captions_that_were_embedded_before_a_stop_are_not_embedded_again(tmp_path: Path) -> None:
    captions = [f"caption {number}" for number in range(2 * CAPTIONS_PER_PART + 3)]
    asked: list[str] = []

    def embed(caption: str) -> tuple[torch.Tensor, torch.Tensor]:
        if len(asked) == stop_after:
            raise KeyboardInterrupt
        asked.append(caption)
        number = float(caption.split()[1])
        return torch.full((3, 2), number), torch.tensor([True, False, False])

    stop_after = CAPTIONS_PER_PART + 7
    with pytest.raises(KeyboardInterrupt):
        list(embed_captions(captions, embed, tmp_path, "this encoder"))
    asked.clear()
    stop_after = -1
    found = list(embed_captions(captions, embed, tmp_path, "this encoder"))
    assert asked == captions[CAPTIONS_PER_PART:], "the first part was whole"
    assert [float(embedding[0, 0]) for embedding, _ in found] == list(range(len(captions)))
    asked.clear()
    list(embed_captions(captions, embed, tmp_path, "another encoder"))
    assert asked == captions
