"""A backbone whose field is known in closed form, to see where samplers end up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, cast

import torch
from torch import nn

from soundstage.models.adapter import AudioContext
from soundstage.models.audio.base import FeatureGrid
from soundstage.models.backbones.base import Backbone, CodecShape, FirstFrameWay, TextEmbedding, Transformer
from soundstage.models.backbones.codecs import PixelCodec
from soundstage.models.backbones.cogvideox import CogVideoXBackbone
from soundstage.models.backbones.stand_in import stand_in_text
from soundstage.models.backbones.wan import WanBackbone
from soundstage.models.conditioned import AudioAdapters, AudioConditionedTransformer
from soundstage.models.low_rank import LowRankUpdate
from soundstage.models.noising import CleanResidual, Noising
from soundstage.models.windows import audio_windows, frame_spans

from .makers import model_config

FRAMES, SIZE, HIDDEN, TEXT_DIM, FPS = 3, 4, 8, 8, 6.0
EULER: dict[str, Any] = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 1.0}
UNIPC = dict(WanBackbone.releases["wan2.1-t2v-1.3b"].scheduler)
DDIM = dict(CogVideoXBackbone.releases["cogvideox-2b"].scheduler)
DPM = {name: value for name, value in DDIM.items() if name != "clip_sample"} | {"_class_name": "CogVideoXDPMScheduler"}


class Block(nn.Module):
    """The identity plus a linear map of ones whose weight is zero: what updates of that map add is seen undiluted."""

    def __init__(self) -> None:
        super().__init__()
        self.to_q = nn.Linear(HIDDEN, HIDDEN, bias=False)
        nn.init.zeros_(self.to_q.weight)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + self.to_q(torch.ones_like(hidden))


class KnownField(nn.Module):
    """A transformer whose output is its caption's mean, plus what adapters add in and after its one block."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block()])
        self.inputs: list[torch.Tensor] = []

    def forward(
        self, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor, return_dict: bool
    ) -> tuple[torch.Tensor]:
        assert not return_dict
        self.inputs.append(hidden_states)
        batch, channels, frames, height, width = hidden_states.shape
        tokens = self.blocks[0](torch.zeros(batch, frames * height * width, HIDDEN))
        added = tokens.mean(dim=-1).view(batch, 1, frames, height, width)
        caption = encoder_hidden_states.mean(dim=(1, 2)).view(batch, 1, 1, 1, 1)
        return ((added + caption).expand(batch, channels, -1, -1, -1),)


@dataclass(kw_only=True)
class Known(Backbone):
    """Pixels under `KnownField`.

    knows: `velocity` puts out the field; `clean` turns it into what a network puts out that is sure of a clean clip
    equal to the field, in the terms of its scheduler.
    """

    family: ClassVar[str] = "known"
    transformer_class: ClassVar[str] = "KnownField"
    way: FirstFrameWay = "channels"
    knows: Literal["velocity", "clean", "residual"] = "velocity"
    transformer: nn.Module = field(default_factory=KnownField)

    @staticmethod
    def read_codec_shape(config: dict[str, Any]) -> CodecShape:
        return CodecShape(config["channels"], 1, 1)

    @staticmethod
    def make_codec(vae: Any, shape: CodecShape) -> PixelCodec:
        return PixelCodec()

    @staticmethod
    def make_text(encoder: Any, tokenizer: Any, shape: CodecShape) -> Any:
        return stand_in_text(TEXT_DIM)

    @property
    def field_module(self) -> KnownField:
        return cast(KnownField, self.transformer)

    @property
    def blocks(self) -> nn.ModuleList:
        return self.field_module.blocks

    @property
    def hidden_dim(self) -> int:
        return HIDDEN

    @property
    def first_frame(self) -> FirstFrameWay:
        return self.way

    @property
    def first_frame_native(self) -> bool:
        return True

    @property
    def spatial_patch(self) -> int:
        return 1

    @property
    def noising(self) -> Noising:  # type: ignore[override]
        return CleanResidual() if self.knows == "residual" else super().noising

    def attention_projections(self, block: nn.Module) -> dict[str, nn.Linear]:
        return {"q": cast(Block, block).to_q}

    def predict(
        self,
        transformer: Transformer,
        noisy: torch.Tensor,
        first: torch.Tensor,
        timestep: torch.Tensor,
        text: TextEmbedding,
        fps: float,
    ) -> torch.Tensor:
        assert fps == FPS
        given = self.with_first(noisy, first)
        output = transformer(hidden_states=given, encoder_hidden_states=text.embeddings)
        if self.knows != "clean":
            return output
        kept = self.scheduler().alphas_cumprod[timestep].view(-1, 1, 1, 1, 1)
        # v of a clip that is sure: the noise is what remains of the latents, v = (sqrt(a) x - clean) / sqrt(1 - a).
        return ((kept.sqrt() * given - output) / (1 - kept).sqrt()).float()


def known(
    scheduler: Mapping[str, Any] = EULER,
    knows: Literal["velocity", "clean", "residual"] = "velocity",
    way: FirstFrameWay = "channels",
    **settings: Any,
) -> Known:
    """A fresh one."""
    config = dict(scheduler) | settings
    return Known(
        codec_shape=CodecShape(3, 1, 1),
        scheduler_class=config.pop("_class_name"),
        scheduler_config=config,
        fingerprint="known",
        licence="none",
        origin="known",
        load_codec=PixelCodec,
        load_text=lambda: stand_in_text(TEXT_DIM),
        way=way,
        knows=knows,
    )


def audible(bias: float, made: Known, updated: float = 0.0) -> tuple[AudioConditionedTransformer, AudioContext]:
    """A model whose adapter adds `bias` wherever audio is heard, and whose low-rank update adds `updated` always."""
    config = model_config(inner_dim=2, heads=1, audio_dim=4, low_rank=1).adapter
    adapters = AudioAdapters(made, {"mel": FeatureGrid(5, 0.01)}, config)
    nn.init.constant_(adapters.attentions["0"].to_out.bias, bias)
    update = adapters.updates["0"]["q"]
    assert isinstance(update, LowRankUpdate)
    nn.init.constant_(update.down.weight, 1 / HIDDEN)
    nn.init.constant_(update.up.weight, updated)
    windows = {"mel": audio_windows(frame_spans(FRAMES, FPS), torch.arange(-20, 80) / 100, 0.1, 0.01)}
    context = adapters.context({"mel": torch.ones(2, 100, 5)}, windows, torch.ones(2))
    return AudioConditionedTransformer(made, adapters), context


def caption(level: float, batch: int) -> TextEmbedding:
    """A caption whose mean is `level`."""
    return TextEmbedding(torch.full((batch, 4, TEXT_DIM), level), torch.ones(batch, 4, dtype=torch.bool))
