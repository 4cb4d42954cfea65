"""Tiny random objects of the classes that real checkpoints have, saved and loaded as those are."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    RobertaTokenizer,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipProcessor,
)

from soundstage.curation.signals import audio_text_cosine, check_encoder, image_text_cosine, spread_frames
from soundstage.errors import ConfigError

CAPTION = "a red drum is struck"
LETTERS = sorted(set("abcdefghijklmnopqrstuvwxyz"))
RATE = 16000


def _save_clip(folder: Path) -> str:
    tokens = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    (folder / "words").mkdir(parents=True)
    (folder / "words" / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "words" / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "words", model_max_length=32)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config=small
        | {"vocab_size": len(tokens), "max_position_embeddings": 32, "bos_token_id": 0, "eos_token_id": 1},
        vision_config=small | {"image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(images, tokenizer).save_pretrained(folder)
    return str(folder)


def _save_clap(folder: Path) -> str:
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *LETTERS, *(f"\u0120{letter}" for letter in LETTERS)]
    (folder / "words").mkdir(parents=True)
    (folder / "words" / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "words" / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = RobertaTokenizer.from_pretrained(folder / "words", model_max_length=64)
    torch.manual_seed(0)
    config = ClapConfig(
        text_config={
            "vocab_size": len(tokens),
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 80,
        },
        audio_config={
            "hidden_size": 16,
            "patch_embeds_hidden_size": 8,
            "spec_size": 32,
            "num_mel_bins": 8,
            "depths": [1, 1],
            "num_attention_heads": [2, 2],
            "window_size": 2,
            "num_hidden_layers": 2,
            "patch_size": 4,
            "patch_stride": [4, 4],
        },
        projection_dim=8,
    )
    ClapModel(config).save_pretrained(folder)
    extractor = ClapFeatureExtractor(
        feature_size=8,
        sampling_rate=8000,
        hop_length=200,
        fft_window_size=512,
        max_length_s=2,
        frequency_max=4000,
        truncation="rand_trunc",
    )
    ClapProcessor(extractor, tokenizer).save_pretrained(folder)
    return str(folder)


def _save_siglip(folder: Path) -> str:
    words = ["<pad>", "<eos>", "<unk>", *CAPTION.split()]
    vocabulary = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    vocabulary.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=vocabulary, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", model_max_length=16
    )
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = SiglipConfig(
        text_config=small | {"vocab_size": len(words), "max_position_embeddings": 16},
        vision_config=small | {"image_size": 32, "patch_size": 8},
    )
    SiglipModel(config).save_pretrained(folder)
    SiglipProcessor(SiglipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def clap(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _save_clap(tmp_path_factory.mktemp("clap"))


def test_image_text_cosine_is_the_models_own_logit_without_its_scale(clip: str) -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (4, 48, 64, 3), dtype=np.uint8)
    network, processor = CLIPModel.from_pretrained(clip), CLIPProcessor.from_pretrained(clip)
    with torch.no_grad():
        outputs = network(**processor(images=list(pictures), text=[CAPTION], return_tensors="pt"))
    expected = (outputs.logits_per_image / network.logit_scale.exp().detach()).mean()
    assert image_text_cosine(pictures, CAPTION, clip) == pytest.approx(float(expected), abs=1e-5)
    assert image_text_cosine(pictures, "xyz " * 60, clip) != pytest.approx(float(expected), abs=1e-4)


def test_siglip_reads_its_caption_padded_to_full_length(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (2, 40, 40, 3), dtype=np.uint8)
    siglip = _save_siglip(tmp_path)
    network, processor = SiglipModel.from_pretrained(siglip), SiglipProcessor.from_pretrained(siglip)
    with torch.no_grad():
        inputs = processor(images=list(pictures), text=["a drum"], padding="max_length", return_tensors="pt")
        logits = network(**inputs).logits_per_image
        expected = ((logits - network.logit_bias) / network.logit_scale.exp()).mean()
    assert image_text_cosine(pictures, "a drum", siglip) == pytest.approx(float(expected), abs=1e-5)


def test_audio_text_cosine_is_the_models_own_logit_without_its_scale(clap: str) -> None:
    sound = np.random.default_rng(0).normal(scale=0.1, size=8000).astype(np.float32)
    network, processor = ClapModel.from_pretrained(clap), ClapProcessor.from_pretrained(clap)
    inputs = processor(audio=[sound], text=[CAPTION], sampling_rate=8000, return_tensors="pt")
    with torch.no_grad():
        outputs = network(**inputs)
    expected = outputs.logits_per_audio / network.logit_scale_a.exp().detach()
    assert audio_text_cosine(sound, 8000, CAPTION, clap) == pytest.approx(float(expected), abs=1e-5)


def test_of_a_long_sound_the_middle_is_heard_each_time(clap: str) -> None:
    """The feature extractor itself would draw a part at random."""
    sound = np.random.default_rng(0).normal(scale=0.1, size=5 * RATE).astype(np.float32)
    sound[: RATE // 2] *= 9
    values = {audio_text_cosine(sound, RATE, CAPTION, clap) for _ in range(3)}
    quieter = sound.copy()
    quieter[: RATE // 2] = 0
    assert values == {audio_text_cosine(quieter, RATE, CAPTION, clap)}


@pytest.mark.parametrize("field", ["score.image_text_model", "score.audio_text_model"])
def test_a_model_of_another_kind_is_refused(field: str, clip: str, clap: str) -> None:
    right, wrong = (clip, clap) if field == "score.image_text_model" else (clap, clip)
    check_encoder(None, field)
    check_encoder(right, field)
    with pytest.raises(ConfigError, match=rf"{field}='.*' is a model of type 'cl[ai]p'; one of .* is expected"):
        check_encoder(wrong, field)


def test_a_folder_without_weights_is_refused(clip: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((Path(clip) / "config.json").read_text())
    with pytest.raises(ConfigError, match=r"score.image_text_model='.*' cannot be loaded"):
        image_text_cosine(np.zeros((1, 32, 32, 3), np.uint8), CAPTION, str(tmp_path))


@pytest.mark.parametrize(
    ("frames", "expected"), [(0, set()), (1, {0}), (2, {0, 1}), (4, {0, 1, 2, 3}), (80, {10, 30, 50, 70})]
)
def test_pictures_are_spread_over_the_clip(frames: int, expected: set[int]) -> None:
    assert spread_frames(frames) == expected
