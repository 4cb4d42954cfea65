"""`AudioSyncPipeline`: the animator behind diffusers' interface, in one folder that can be carried about.

model_index.json                                           diffusers' list of components
transformer/ vae/ text_encoder/ tokenizer/ scheduler/      the backbone's own files, byte for byte
backbone.json                                              which checkpoint that is, and its fingerprint
adapter/                                                   safetensors, adapter.json, card (see `bundle`)

Without its backbone the folder holds adapter/ and backbone.json, which names the checkpoint to load. The `Animator`
holds everything that generates; the pipeline translates arguments, shows the components to diffusers, and saves.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput

from ..config import parse
from ..config.tree import ModelConfig
from ..errors import ConfigError
from ..media.frames import fitted_frames
from ..stages.files import replace_directory, write_json
from .animate import DEFAULT_STEPS, Animator, guidance_of
from .backbones.base import DESCRIPTION_FILE, Backbone
from .backbones.load import load_backbone, pretrained_backbone
from .backbones.stand_in import StandIn, save_stand_in
from .bundle import CONFIG_FILE, describe_adapter
from .noising import noising_of
from .pipeline_inputs import OutputType, Picture, Sound, drawn_seeds, listed, mono, picture, placement, shown

ADAPTER_FOLDER = "adapter"
INDEX_FILE = "model_index.json"
PARTS = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")


@dataclass
class AudioSyncPipelineOutput(BaseOutput):
    """What a call returns.

    frames: by `output_type`: "np" (B, T, height, width, 3) float32 in 0..1; "pil" B lists of T pictures; "latent"
    (B, C, F, h, w). frame_rate: frames a second.
    """

    frames: Any
    frame_rate: int


class AudioSyncPipeline(DiffusionPipeline):
    """Image, caption and sound to video.

    transformer, text_encoder, tokenizer, scheduler and vae are the backbone's; vae is None for the stand-in, whose
    latents are pixels. Another scheduler of the same kind of prediction may be assigned; other components may not.
    """

    _optional_components = ["vae"]  # noqa: RUF012 -- as diffusers declares it

    def __init__(self, animator: Animator) -> None:
        super().__init__()
        backbone = animator.backbone
        text: Any = backbone.text
        self.register_modules(
            transformer=backbone.transformer,
            vae=getattr(backbone.codec, "vae", None),
            text_encoder=text.encoder_module,
            tokenizer=text.tokenizer,
            scheduler=backbone.scheduler(),
        )
        self.animator = animator
        self._given = {name: getattr(self, name) for name in PARTS if name != "scheduler"}

    @classmethod
    def _get_signature_keys(cls, obj: Any) -> tuple[list[str], list[str]]:  # noqa: ARG003 -- diffusers' signature
        # diffusers reads the components' names off the constructor's arguments; ours takes what holds them already.
        return sorted(PARTS), []

    @classmethod
    def from_pretrained(cls, folder: str | Path, backbone: Backbone | str | Path | None = None) -> AudioSyncPipeline:
        """Load what `save_pretrained` wrote, in evaluation mode, on the CPU.

        `backbone` takes the place of the saved or named one, which it must equal: a loaded one, a folder with
        `backbone.json`, or a checkpoint's folder or hub id.

        Raises:
            ConfigError: no such folder, or an adapter that was made for another backbone.
        """
        folder = Path(folder).expanduser()
        if not (folder / DESCRIPTION_FILE).exists() or not (folder / ADAPTER_FOLDER).is_dir():
            raise ConfigError(
                f"{folder} holds no pipeline (expected {DESCRIPTION_FILE} and {ADAPTER_FOLDER}/); give a folder that "
                "AudioSyncPipeline.save_pretrained wrote"
            )
        adapter = folder / ADAPTER_FOLDER
        return cls(Animator.over(_backbone(backbone or folder, adapter), adapter))

    def save_pretrained(self, folder: str | Path, include_backbone: bool = True) -> None:
        """Write the pipeline as `folder`, whole or not at all; an older pipeline there is replaced.

        Backbone and adapter are copied from the files they were loaded from, so that fingerprints hold; a change of
        type or device, or another scheduler, is not saved. Without its backbone the folder is small and
        `backbone.json` names the checkpoint.

        Raises:
            ConfigError: a stand-in without its backbone, which nothing else could provide; a folder that holds
                something else; no adapter to save.
        """
        folder = Path(folder).expanduser()
        adapter, backbone = self.animator.adapter_folder, self.animator.backbone
        if adapter is None:
            raise ConfigError("this pipeline has no adapter, it is the backbone alone; save that with diffusers")
        if backbone.stand_in and not include_backbone:
            raise ConfigError("a stand-in backbone has no name to load it by; save with include_backbone=True")
        _check_replaceable(folder)
        staging = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        try:
            shutil.copytree(adapter, staging / ADAPTER_FOLDER)
            self._describe_backbone(staging)
            if include_backbone:
                _copy_backbone(backbone, staging)
                self.save_config(staging)
            replace_directory(staging, folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _describe_backbone(self, target: Path) -> None:
        backbone = self.animator.backbone
        if isinstance(backbone, StandIn):
            return  # its files are saved together with their description
        config = self.animator.config.backbone
        if config.pretrained != backbone.origin:
            config = config.model_copy(update={"pretrained": backbone.origin, "revision": None})
        write_json(target / DESCRIPTION_FILE, backbone.describe() | {"config": config.model_dump(mode="json")})

    def to(self, *args: Any, **kwargs: Any) -> AudioSyncPipeline:
        """Move to a device, a type or both, as diffusers' `to`.

        The type is that of transformer and text encoder: autoencoder and adapter keep float32, whose roundings would
        be seen, or were not trained for.
        """
        device, dtype = placement(args, kwargs)
        super().to(device)
        if device is not None:
            self.animator.to(device)
        for module in (self.transformer, self.text_encoder) if dtype is not None else ():
            module.to(dtype)
        return self

    @torch.no_grad()
    def __call__(
        self,
        image: Picture | Sequence[Picture],
        prompt: str | Sequence[str],
        audio: Sound | Sequence[Sound],
        *,
        num_inference_steps: int = DEFAULT_STEPS,
        guidance_scale: float = 1.0,
        audio_guidance_scale: float = 1.0,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        seed: int | Sequence[int] | None = None,
        output_type: OutputType = "np",
        return_dict: bool = True,
    ) -> AudioSyncPipelineOutput | tuple[Any]:
        """Generate one video, or a batch from lists of equal length.

        Args:
            image: first frame: PIL picture, (H, W, 3) uint8 or file; cropped to the window's aspect and scaled.
            prompt: what is to be seen.
            audio: waveform (samples,) or (channels, samples), float in -1..1, and its rate in Hz; its start meets the
                first frame, silence follows its end.
            num_inference_steps: denoising steps.
            guidance_scale: of text, against the empty caption; 1 is none.
            audio_guidance_scale: against the same model without its audio layers; 1 is none.
            generator: where each video's seed is drawn from; one generator serves a batch in its order.
            seed: instead of a generator; the same seed gives the same video, alone or in a batch, up to rounding.
                With neither, seeds come from torch's global state.
            output_type: see `AudioSyncPipelineOutput`.
            return_dict: False returns the tuple (frames,).

        Raises:
            ValueError: lists of unequal length, seed and generator together, an unknown output type, a picture or sound
                that is none.
        """
        if output_type not in get_args(OutputType):
            raise ValueError(f"output_type={output_type!r}; known are {', '.join(get_args(OutputType))}")
        self._check_components()
        images, prompts, sounds = listed(image), listed(prompt), listed(audio)
        if not len(images) == len(prompts) == len(sounds):
            raise ValueError(
                f"{len(images)} images, {len(prompts)} prompts, {len(sounds)} sounds; give one of each for every video"
            )
        height, width = self.animator.window.frame_size
        latents = self.animator.latents_batch(
            np.concatenate([fitted_frames(picture(each)[None], height, width) for each in images]),
            np.stack([self.animator.window_sound(*mono(each), 0.0) for each in sounds]),
            prompts,
            seeds=drawn_seeds(len(images), generator, seed),
            num_inference_steps=num_inference_steps,
            guidance=guidance_of(audio_guidance_scale, guidance_scale),
        )
        frames = latents if output_type == "latent" else shown(self.animator.decoded(latents), output_type)
        return AudioSyncPipelineOutput(frames=frames, frame_rate=self.animator.fps) if return_dict else (frames,)

    def _check_components(self) -> None:
        """Refuse components that the animator does not use, and give it the scheduler."""
        replaced = [name for name, given in self._given.items() if getattr(self, name) is not given]
        if replaced:
            raise ValueError(
                f"{', '.join(replaced)} was replaced, but adapters are hooked into the one that was loaded; load a "
                "pipeline with AudioSyncPipeline.from_pretrained(folder, backbone=...) instead"
            )
        backbone, kind = self.animator.backbone, noising_of(self.scheduler)
        if not isinstance(backbone.noising, type(kind)):
            raise ValueError(
                f"scheduler {type(self.scheduler).__name__} is for {kind.name}, this backbone was trained for "
                f"{backbone.noising.name}; take a scheduler for that"
            )
        backbone.scheduler_class = type(self.scheduler).__name__
        backbone.scheduler_config = dict(self.scheduler.config)


def _backbone(given: Backbone | str | Path, adapter: Path) -> Backbone:
    if isinstance(given, Backbone):
        return given
    if (Path(given).expanduser() / DESCRIPTION_FILE).exists():
        return load_backbone(Path(given).expanduser())
    about = describe_adapter(adapter)
    config = parse(ModelConfig, about["model"], origin=str(adapter / CONFIG_FILE)).backbone
    return pretrained_backbone(config.model_copy(update={"pretrained": str(given), "revision": None}))


def _copy_backbone(backbone: Backbone, target: Path) -> None:
    if backbone.folder is None:
        assert isinstance(backbone, StandIn), "only a stand-in is made in memory"
        save_stand_in(backbone, target)
        return
    for part in PARTS:
        if (backbone.folder / part).is_dir():
            shutil.copytree(backbone.folder / part, target / part)
    if backbone.stand_in:
        shutil.copyfile(backbone.folder / DESCRIPTION_FILE, target / DESCRIPTION_FILE)


def _check_replaceable(folder: Path) -> None:
    held = (folder / DESCRIPTION_FILE).exists() and (folder / ADAPTER_FOLDER / CONFIG_FILE).exists()
    if folder.exists() and any(folder.iterdir()) and not held:
        raise ConfigError(f"{folder} holds files that are no pipeline; give a new folder, or one that held a pipeline")
