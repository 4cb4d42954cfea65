"""T5-class text encoders, run as each family's pipeline runs them."""

from __future__ import annotations

from typing import Any

import torch

from .base import TextEmbedding


class T5Text:
    """A frozen T5-class encoder and its tokenizer; captions are padded to a fixed number of tokens.

    masked: the encoder itself ignores padding, and positions after the caption's end are zero (Wan). Else padding is
    encoded like words and it is for the transformer's mask to hide it (LTX-Video), or for nobody (CogVideoX).
    """

    def __init__(self, encoder: Any, tokenizer: Any, num_tokens: int, *, masked: bool, cleaned: bool = False) -> None:
        self.encoder_module = encoder
        self.tokenizer = tokenizer
        self._num_tokens, self._masked, self._cleaned = num_tokens, masked, cleaned

    @torch.no_grad()
    def encode(self, captions: list[str]) -> TextEmbedding:
        """Captions to embeddings (B, num_tokens, D) float32."""
        if self._cleaned:
            from diffusers.pipelines.wan.pipeline_wan import prompt_clean

            captions = [prompt_clean(caption) for caption in captions]
        tokens = self.tokenizer(
            captions, padding="max_length", truncation=True, max_length=self._num_tokens, return_tensors="pt"
        )
        device = self.encoder_module.device
        mask = tokens.attention_mask.bool()
        seen = {"attention_mask": tokens.attention_mask.to(device)} if self._masked else {}
        hidden = self.encoder_module(tokens.input_ids.to(device), **seen)[0].float().cpu()
        if self._masked:
            # Chosen, not multiplied: a product would turn what overflowed on padding into NaN.
            hidden = torch.where(mask[..., None], hidden, torch.zeros(()))
        return TextEmbedding(hidden, mask)
