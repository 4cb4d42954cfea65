"""T5-class text encoders, run as each family's pipeline runs them."""

from __future__ import annotations

from typing import Any, Literal

import torch

from .base import TextEmbedding

Padding = Literal["zeroed", "ignored", "encoded"]
"""`zeroed`: the encoder does not see it, and its embeddings are set to zero (Wan). `ignored`: the encoder does not see
it, the transformer's mask hides the rest (LTX-Video from 0.9.5 on). `encoded`: like words; the transformer's mask hides
it (LTX-Video before) or nothing does (CogVideoX)."""


class T5Text:
    """A frozen T5-class encoder and its tokenizer; captions are padded to a fixed number of tokens.

    cleaned: HTML entities, broken Unicode and runs of white space are mended first, as Wan's pipeline does.
    """

    def __init__(
        self, encoder: Any, tokenizer: Any, num_tokens: int, *, padding: Padding, cleaned: bool = False
    ) -> None:
        self.encoder_module = encoder
        self.tokenizer = tokenizer
        self._num_tokens, self._padding, self._cleaned = num_tokens, padding, cleaned

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
        seen = {} if self._padding == "encoded" else {"attention_mask": tokens.attention_mask.to(device)}
        hidden = self.encoder_module(tokens.input_ids.to(device), **seen)[0].float().cpu()
        if self._padding == "zeroed":
            # Chosen, not multiplied: a product would turn what overflowed on padding into NaN.
            hidden = torch.where(mask[..., None], hidden, torch.zeros(()))
        return TextEmbedding(hidden, mask)
