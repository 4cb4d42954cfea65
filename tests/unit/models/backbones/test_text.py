"""Captions are embedded bit for bit as each family's own pipeline embeds them, and so they come back from shards."""

from __future__ import annotations

import inspect
from pathlib import Path

import diffusers
import pytest
import sentencepiece
import torch
from transformers import AutoTokenizer

from soundstage.data.shards import ShardReader
from soundstage.models.backbones.base import TextEmbedding
from soundstage.models.backbones.load import encode_captions
from soundstage.models.backbones.pretrained import load_text
from tests.unit.data.sharding import FINGERPRINTS, sample, write_payload

from .tiny import MEMBERS, Shelf

# White space, HTML entities and curly quotes, which Wan's pipeline mends; and one caption longer than any limit.
CAPTIONS = [
    "a  red drum &amp; its \N{LEFT DOUBLE QUOTATION MARK}ring\N{RIGHT DOUBLE QUOTATION MARK}",
    "",
    "rain " * 120,
]
# In which pipeline each kind is run; the kinds of a family share text encoders and differ in pipelines.
PIPELINES = {
    "wan2.1-t2v": "WanPipeline",
    "wan2.2-ti2v": "WanImageToVideoPipeline",
    "ltx-0.9.0": "LTXImageToVideoPipeline",
    "ltx-0.9.1": "LTXImageToVideoPipeline",
    "ltx-0.9.5": "LTXConditionPipeline",
    "cogvideox-2b": "CogVideoXPipeline",
    "cogvideox-5b": "CogVideoXPipeline",
    "cogvideox-5b-dpm": "CogVideoXPipeline",
    "cogvideox-5b-i2v": "CogVideoXImageToVideoPipeline",
    "cogvideox-5b-i2v-dpm": "CogVideoXImageToVideoPipeline",
}


def from_shards(folder: Path, embedded: TextEmbedding) -> TextEmbedding:
    """The embeddings of `CAPTIONS` as a reader of shards gives them."""
    write_payload(folder, [sample(0)], captions=CAPTIONS, text=embedded)
    reader = ShardReader(folder, FINGERPRINTS, {"pretrain"})
    return TextEmbedding(*(torch.stack(part) for part in zip(*map(reader.text, CAPTIONS), strict=True)))


@pytest.mark.parametrize("name", MEMBERS)
def test_embeddings_are_the_pipelines(shelf: Shelf, name: str, tmp_path: Path) -> None:
    saved = shelf.get(name)
    parts = {part: value for part, value in saved.pipeline.components.items() if value is not None}
    pipeline = getattr(diffusers, PIPELINES[name])(**parts)
    limit = inspect.signature(pipeline.__call__).parameters["max_sequence_length"].default
    found = from_shards(tmp_path, encode_captions(saved.load().text, CAPTIONS))
    with torch.no_grad():  # as the pipeline's call does: it chooses other kernels
        encoded = pipeline.encode_prompt(CAPTIONS, do_classifier_free_guidance=False, max_sequence_length=limit)
    assert torch.equal(found.embeddings, encoded[0])
    if saved.member.family == "ltx":
        assert torch.equal(found.mask, encoded[1])
    assert found.embeddings.shape[:2] == found.mask.shape == (3, limit)
    assert not torch.equal(found.embeddings[0], found.embeddings[1])


def test_wans_captions_are_mended_first(shelf: Shelf) -> None:
    text = shelf.get("wan2.1-t2v").load().text
    mended = text.encode(['a red drum & its "ring"']).embeddings
    assert torch.equal(text.encode(CAPTIONS[:1]).embeddings, mended)


def test_a_caption_does_not_depend_on_its_neighbours(shelf: Shelf) -> None:
    text = shelf.get("ltx-0.9.5").load().text
    together = encode_captions(text, CAPTIONS)
    assert torch.equal(together.embeddings[1:2], encode_captions(text, CAPTIONS[1:2]).embeddings)


def test_a_tokenizer_published_as_sentencepiece_alone_is_read(shelf: Shelf, tmp_path: Path) -> None:
    # LTX-Video and CogVideoX come with a spiece.model and no tokenizer.json.
    saved = shelf.get("ltx-0.9.0")
    for part in ("text_encoder", "vae"):
        (tmp_path / part).symlink_to(saved.folder / part)
    (tmp_path / "tokenizer").mkdir()
    words = ["a red drum", "rain falls on a tin roof", "the drum is struck", "a dog barks"]
    with (tmp_path / "tokenizer" / "spiece.model").open("wb") as stream:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(words), model_writer=stream, vocab_size=28, pad_id=0, eos_id=1, unk_id=2, bos_id=-1
        )
    (tmp_path / "tokenizer" / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "T5Tokenizer", "extra_ids": 0}\n'
    )
    text = load_text(type(saved.load()), saved.config.model_copy(update={"pretrained": str(tmp_path)}))
    reference = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer" / "spiece.model"))
    tokens = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")("the drum is red").input_ids
    assert tokens == [*reference.encode("the drum is red"), 1]
    found = text.encode(["the drum is red"])
    assert int(found.mask.sum()) == len(tokens)
    with torch.no_grad():
        padded = torch.tensor([tokens + [0] * (128 - len(tokens))])
        assert torch.equal(found.embeddings, saved.pipeline.text_encoder(padded)[0])
