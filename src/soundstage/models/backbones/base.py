"""What the rest of the house needs to know of a frozen video backbone, whatever its family."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import nn

from ...errors import ConfigError
from ..noising import Noising, noising_of

DESCRIPTION_FILE = "backbone.json"

FirstFrameWay = Literal["channels", "clean_latent"]
"""`channels`: extra input channels, as in training. `clean_latent`: the first latent frame stays clean"""


class Codec(Protocol):
    """Between pictures and latents."""

    channels: int
    temporal_stride: int
    spatial_stride: int

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        """Frames (B, T, H, W, 3) uint8 to clean latents (B, C, F, h, w) float32."""

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents to frames (B, T, H, W, 3) uint8."""


@dataclass(frozen=True)
class TextEmbedding:
    """What cross-attention reads of captions.

    embeddings: (B, L, D) float32. mask: (B, L) bool, False on padding; families that show padding to the transformer
    do not use it.
    """

    embeddings: torch.Tensor
    mask: torch.Tensor

    def to(self, device: torch.device) -> TextEmbedding:
        """The same on `device`."""
        return TextEmbedding(self.embeddings.to(device), self.mask.to(device))

    def expand(self, batch: int) -> TextEmbedding:
        """One caption for a whole batch."""
        return TextEmbedding(self.embeddings.expand(batch, -1, -1), self.mask.expand(batch, -1))

    @staticmethod
    def cat(parts: list[TextEmbedding]) -> TextEmbedding:
        """Captions of several batches after each other."""
        return TextEmbedding(torch.cat([part.embeddings for part in parts]), torch.cat([part.mask for part in parts]))


class TextEncoder(Protocol):
    """From captions to what the transformer's cross-attention reads."""

    def encode(self, captions: list[str]) -> TextEmbedding:
        """Embeddings of captions."""


@dataclass(frozen=True)
class CodecShape:
    """What is known of a codec without loading it."""

    channels: int
    temporal_stride: int
    spatial_stride: int

    def latent_frames(self, num_frames: int) -> int:
        """Latent frames of a video.

        Raises:
            ConfigError: no video of this length has whole latents.
        """
        if (num_frames - 1) % self.temporal_stride:
            below = num_frames - 1 - (num_frames - 1) % self.temporal_stride + 1
            raise ConfigError(
                f"window.num_frames={num_frames}: a codec that packs {self.temporal_stride} frames into a latent takes "
                f"1 + {self.temporal_stride} k frames; take {below} or {below + self.temporal_stride}"
            )
        return (num_frames - 1) // self.temporal_stride + 1


@dataclass(frozen=True)
class Release:
    """A published checkpoint: where it is, what one may do with it, and its shape, known without its weights."""

    hub_id: str
    revision: str
    """commit or branch on the hub"""
    licence: str
    native_fps: int
    native_frames: int
    native_size: tuple[int, int]
    """height and width it is meant for"""
    transformer: Mapping[str, Any]
    """arguments of the transformer's class that differ from its defaults"""
    codec: CodecShape
    text: str
    """text encoder, its width and the number of tokens"""
    scheduler: Mapping[str, Any] = field(default_factory=dict)
    """`_class_name` and settings, as in scheduler_config.json"""


Transformer = Callable[..., torch.Tensor]
"""Called with the keyword arguments of the family's diffusers class; returns its output tensor."""


@dataclass(kw_only=True)
class Backbone(ABC):
    """A frozen denoising transformer with what surrounds it; subclasses are the families.

    Blocks put out hidden states (B, F * S, C) whose tokens run latent frame by latent frame, alone or first in a tuple.
    """

    family: ClassVar[str]
    transformer_class: ClassVar[str]
    """name of the class in diffusers"""
    codec_class: ClassVar[str] = ""
    releases: ClassVar[dict[str, Release]] = {}

    transformer: nn.Module
    codec_shape: CodecShape
    scheduler_class: str
    scheduler_config: dict[str, Any]
    fingerprint: str
    licence: str
    origin: str
    """folder or hub id it was loaded from"""
    folder: Path | None = None
    """where its files lie; None: it was made here and is in memory only"""
    stand_in: bool = False
    load_codec: Callable[[], Codec]
    load_text: Callable[[], TextEncoder]
    caller: nn.Module | None = field(default=None, init=False, repr=False, compare=False)
    """the model whose call, or the backward pass of whose call, is going on: of all hooks only its own act"""

    @cached_property
    def codec(self) -> Codec:
        """Loaded when first used: training needs none."""
        return self.load_codec()

    @cached_property
    def text(self) -> TextEncoder:
        """Loaded when first used: training needs none."""
        return self.load_text()

    def checkpoint_activations(self) -> None:
        """Compute blocks again in the backward pass instead of keeping them: torch's checkpointing, not reentrant."""
        # Reentrant checkpointing drops gradients of blocks whose input needs none, as a frozen model's first has.
        self.transformer.enable_gradient_checkpointing()  # type: ignore[operator]

    @staticmethod
    @abstractmethod
    def read_codec_shape(config: dict[str, Any]) -> CodecShape:
        """Shape of the family's autoencoder from its config.json."""

    @staticmethod
    @abstractmethod
    def make_codec(vae: Any, shape: CodecShape) -> Codec:
        """The codec around a loaded autoencoder."""

    @staticmethod
    @abstractmethod
    def make_text(encoder: Any, tokenizer: Any, shape: CodecShape) -> TextEncoder:
        """The text encoder, run as the pipeline runs it in which the family's checkpoints of this codec are run."""

    def check(self) -> None:  # noqa: B027 -- nothing to refuse is a fair answer
        """Refuse members of the family that we cannot serve.

        Raises:
            ConfigError: such a member; what is supported is named.
        """

    @property
    @abstractmethod
    def blocks(self) -> nn.ModuleList:
        """The transformer's blocks, in their order."""

    @property
    def hidden_dim(self) -> int:
        """Width of hidden states."""
        config: Any = self.transformer.config
        return int(config.num_attention_heads * config.attention_head_dim)

    @property
    @abstractmethod
    def first_frame(self) -> FirstFrameWay:
        """How the first frame is given."""

    @property
    @abstractmethod
    def first_frame_native(self) -> bool:
        """Whether the checkpoint was trained to be given its first frame in this way; if not, that is experimental."""

    @property
    @abstractmethod
    def spatial_patch(self) -> int:
        """Latent pixels of a token's side."""

    def attention_projections(self, block: nn.Module) -> dict[str, nn.Linear]:
        """Linear maps of a block's self-attention, by name: what a low-rank update touches."""
        attention: Any = block.attn1
        return {"q": attention.to_q, "k": attention.to_k, "v": attention.to_v, "out": attention.to_out[0]}

    @abstractmethod
    def predict(
        self,
        transformer: Transformer,
        noisy: torch.Tensor,
        first: torch.Tensor,
        timestep: torch.Tensor,
        text: TextEmbedding,
        fps: float,
    ) -> torch.Tensor:
        """The network's output (B, C, F, h, w) for `noisy` (B, C, F, h, w) and the clean first frame (B, C, 1, h, w).

        timestep: (B,) in the scheduler's units.
        """

    @cached_property
    def noising(self) -> Noising:
        """The forward process and the meaning of the output."""
        return noising_of(self.scheduler())

    @property
    def prediction(self) -> str:
        """What the network puts out, for cards and listings."""
        return self.noising.name

    def scheduler(self) -> Any:
        """A fresh scheduler of the backbone's own class and settings."""
        import diffusers

        return getattr(diffusers, self.scheduler_class).from_config(self.scheduler_config)

    def set_timesteps(self, scheduler: Any, num_inference_steps: int, num_tokens: int) -> None:  # noqa: ARG002
        """Give `scheduler` its steps as the family's pipeline does; `num_tokens` of the video."""
        scheduler.set_timesteps(num_inference_steps)

    def with_first(self, latents: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
        """Latents whose first frame is the clean one where the family gives it so; else as they are."""
        if self.first_frame != "clean_latent":
            return latents
        return torch.cat([first.to(latents.dtype), latents[:, :, 1:]], dim=2)

    def learned(self, latents: torch.Tensor) -> torch.Tensor:
        """The latent frames that the network answers for: not those it was given clean."""
        return latents[:, :, 1:] if self.first_frame == "clean_latent" else latents

    def token_timesteps(self, timestep: torch.Tensor, tokens_per_frame: int, num_latent_frames: int) -> torch.Tensor:
        """(B,) to (B, F * S): 0 on the tokens of a first frame that is given clean."""
        per_frame = timestep[:, None].repeat(1, num_latent_frames)
        per_frame[:, 0] = 0
        return per_frame.repeat_interleave(tokens_per_frame, dim=1)

    def previous(self, latents: torch.Tensor) -> torch.Tensor:
        """For every element what it is compared with to see motion, the same place a step of time earlier; same shape.

        A latent frame is compared with the one before; the first comes after itself.
        """
        return torch.cat([latents[:, :, :1], latents[:, :, :-1]], dim=2)

    def check_window(self, num_frames: int, height: int, width: int) -> int:
        """Latent frames of a window of the configured length and size.

        Raises:
            ConfigError: the family takes no video of this length or size.
        """
        step = self.codec_shape.spatial_stride * self.spatial_patch
        for name, side in (("size", height), ("width", width)):
            if side % step:
                raise ConfigError(
                    f"window.{name}={side}: {self.family} needs a multiple of {step} (codec "
                    f"{self.codec_shape.spatial_stride} x patch {self.spatial_patch}); take "
                    f"{max(step, round(side / step) * step)}"
                )
        return self.codec_shape.latent_frames(num_frames)

    def describe(self) -> dict[str, Any]:
        """What adapters, cards and listings say of it."""
        return {
            "family": self.family,
            "origin": self.origin,
            "fingerprint": self.fingerprint,
            "licence": self.licence,
            "stand_in": self.stand_in,
            "prediction": self.prediction,
            "first_frame": self.first_frame,
            "first_frame_native": self.first_frame_native,
            "temporal_stride": self.codec_shape.temporal_stride,
        }


def weights_fingerprint(module: nn.Module, settings: dict[str, Any]) -> str:
    """SHA-256 over every weight (name, dtype, shape, bytes) and the settings that give them meaning."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_description(folder: Path) -> dict[str, Any]:
    """The `backbone.json` beside a saved backbone; empty for a plain diffusers model."""
    path = folder / DESCRIPTION_FILE
    return dict(json.loads(path.read_text())) if path.exists() else {}
