"""The typed configuration tree: one class a concern, every field with its unit and meaning.

A stage never sees the whole tree: it receives its *slice* (`soundstage.config.slices`), so a change elsewhere
cannot invalidate its result.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field, PlainSerializer, model_validator

from .audio import AudioConfig
from .base import HOW, Config

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Cosine = Annotated[float, Field(ge=-1.0, le=1.0)]


def _finite_or_text(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


# JSON has no infinity: as a number it would come back as null, or as a file that strict readers refuse.
MaybeInfinite = Annotated[float, PlainSerializer(_finite_or_text, when_used="json")]


Defect = Literal[
    "silent",  # the sound track is digital silence
    "still",  # the picture is one frame throughout
    "cut",  # the picture changes to another scene, the sound does not
    "duplicate",  # a byte copy of a clean file
    "shifted",  # the sound is early or late
    "swapped",  # the sound is of another scene
    "too_short",
    "broken",  # the end of the file is missing
    "near_duplicate",  # a clean file encoded again: worse, smaller or trimmed
    "periodic",  # no defect: events at one fixed gap, whose offset nobody can tell
]


class SynthConfig(Config):
    """The procedural audio-visual world: how many files, of which classes, and which defects are planted."""

    seed: int = Field(7, description="seed of the whole world")
    clips: int = Field(480, ge=1, description="number of clean files before defects are planted")
    classes: int = Field(8, ge=1, description="number of classes taken from the catalogue, in its order")
    class_names: tuple[str, ...] = Field((), description="classes by name instead; empty: the first `classes`")
    duration_sec: float = Field(4.0, gt=0.5, description="length of a clean file")
    fps: int = Field(24, ge=6, le=60, description="frames a second of the files")
    size: int = Field(96, ge=32, multiple_of=2, description="width and height in pixels")
    sample_rate: int = Field(44100, description="audio samples a second of the files")
    defects_each: int = Field(6, ge=0, description="planted files of every defect kind")
    mix: Literal["none", "mild", "harsh"] = Field(
        "none", description="planted kinds as fixed shares of all files, in place of `defects_each`"
    )
    planted: dict[Defect, Annotated[int, Field(ge=0)]] = Field(
        {}, description="planted files of a kind, in place of what `mix` or `defects_each` says of it"
    )


class IngestConfig(Config):
    """Where raw videos come from and how a clip is normalised."""

    source: str = Field(
        "synth:",
        description="`synth:` for the procedural world; else a folder, a pattern, a table (.csv, .parquet, .jsonl) or "
        "tars (.tar), on this machine or as an s3://, gs:// or http(s):// URL",
    )
    min_duration_sec: float = Field(2.2, gt=0, description="shorter sources are rejected `too_short`")
    span_sec: float = Field(
        12.0, gt=0, description="longer sources are split at their hard cuts, longer shots into equal parts"
    )
    max_duration_sec: float = Field(600.0, gt=0, description="longer sources are rejected `too_long`")
    max_pixels: int = Field(3840 * 2160, gt=0, description="larger frames are rejected `too_large` before decoding")
    short_side: int = Field(96, ge=16, multiple_of=2, description="normalised clips are scaled down to this short side")
    fps: int = Field(24, ge=1, le=120, description="normalised constant frame rate")
    sample_rate: int = Field(16000, ge=4000, le=192_000, description="normalised audio rate in Hz, mono")
    workers: int = Field(2, ge=1, description="decoding processes", json_schema_extra=HOW)
    file_timeout_sec: float = Field(120.0, gt=0, description="a file that takes longer is rejected `timeout`")
    worker_memory_gib: float = Field(4.0, gt=0, description="address-space limit of a decoding process above its start")
    max_fetch_gib: float = Field(4.0, gt=0, description="larger remote files and tar members are rejected `too_large`")
    fetch_timeout_sec: float = Field(300.0, gt=0, description="remote files that take longer are `unreachable`")
    fetch_attempts: int = Field(3, ge=1, le=10, description="tries at a remote file before it is `unreachable`")
    licence: str = Field("unknown", description="licence recorded when the source states none")


class SplitConfig(Config):
    """Groups (source videos and their near-duplicates), never clips, are assigned to splits, by shares of groups."""

    seed: int = 11
    judge: Share = Field(0.0, description="groups set aside for the judge scorer")
    validation: Share = Field(0.06, description="held-out loss and sample videos")
    test: Share = Field(0.17, description="evaluation only")
    open_classes: tuple[str, ...] = Field((), description="labels held out entirely, as split open_class_test")
    near_duplicates: bool = Field(
        True, description="find near-duplicates: they share a group, and all but one of them are named in duplicate_of"
    )
    max_audio_bit_error: Share = Field(
        0.2, description="share of sound fingerprint bits that may differ between copies; unrelated sound has 0.5"
    )
    max_video_bit_error: Share = Field(
        0.15, description="share of sure picture fingerprint bits that may differ between copies; unrelated have 0.5"
    )
    min_overlap: Share = Field(0.5, gt=0, description="common span of copies, as a share of the shorter clip")
    min_motion_correlation: Share = Field(
        0.95, description="agreement of motion over time where sound cannot tell: both silent, one silent, or dubbed"
    )

    @model_validator(mode="after")
    def _some_remain(self) -> SplitConfig:
        held_out = self.judge + self.validation + self.test
        if held_out >= 1.0:
            raise ValueError(f"split shares judge+validation+test sum to {held_out:.2f}; leave some for pretraining")
        return self


class ContractsConfig(Config):
    """Limits that the data contracts enforce, and how many rows they judge at once."""

    partition_rows: int = Field(
        10_000, ge=1, le=100_000, description="rows judged at once; fewer take less memory and more time"
    )
    max_reject_share: Share = Field(1.0, description="share of sources that may be rejected before the run stops")
    max_abs_shift_sec: float = Field(2.0, gt=0, description="largest offset correction a selection may carry")
    max_duration_sec: float = Field(86_400.0, gt=0, description="longest clip, and latest start of one in its source")
    duration_slack_sec: float = Field(
        0.5, gt=0, description="how far a clip's frames at its frame rate may last from its stated duration"
    )
    min_frame_px: int = Field(16, ge=1, description="smallest width and height of a clip in pixels")
    max_frame_px: int = Field(16_384, ge=1, description="largest width and height of a clip in pixels")
    min_sample_rate: int = Field(8_000, ge=1, description="lowest audio rate of a clip in Hz")
    max_sample_rate: int = Field(384_000, ge=1, description="highest audio rate of a clip in Hz")
    max_channels: int = Field(64, ge=1, description="most audio channels of a source")
    max_onsets_per_sec: float = Field(100.0, gt=0, description="most onsets a second that a signal may state")
    max_abs_offset_sec: float = Field(60.0, gt=0, description="largest offset of sound against picture in a signal")
    max_review_sec: float = Field(86_400.0, gt=0, description="longest time one verdict may have taken")

    @model_validator(mode="after")
    def _ranges_are_not_empty(self) -> ContractsConfig:
        for name in ("frame_px", "sample_rate"):
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if low > high:
                raise ValueError(f"min_{name} is {low}, above max_{name}, which is {high}; no clip can satisfy both")
        return self


class ScoreConfig(Config):
    """Signals of every clip, computed in one decode pass on small grey frames and mono audio."""

    frame_size: int = Field(48, ge=16, description="short side of the grey frames signals see")
    max_offset_sec: float = Field(1.2, gt=0, description="offsets searched on both sides")
    workers: int = Field(2, ge=1, description="scoring processes", json_schema_extra=HOW)
    speech: bool = Field(True, description="speech_share by Silero VAD; false leaves it null")
    learned_cuts: bool = Field(
        False, description="cuts_learned by TransNetV2, for hundred times the price of all cheap signals; else null"
    )
    optical_flow: bool = Field(False, description="mean speed by dense Lucas-Kanade flow; false leaves it null")
    image_text_model: str | None = Field(None, description="CLIP or SigLIP, path or hub id; none: cosine null")
    audio_text_model: str | None = Field(None, description="CLAP, path or hub id; none: cosine null")
    min_scorer_auc: Share = Field(
        0.7, description="a curator that tells true from shifted sound worse than this (AUC) scores nothing"
    )


# Over less than this a correlation says nothing; a wrong place of a sound is at least so far from the right one.
SYNC_MIN_OVERLAP_SEC, SYNC_WRONG_SEC = 0.6, 0.2


class ScorerConfig(Config):
    """A sync scorer: two towers trained by contrast between time-shifted windows of the same clip."""

    pretrained: str | None = Field(None, description="folder of a saved scorer, used as it is; None trains one")
    seed: int = 21
    video_tower: Literal["convolutional", "recurrent", "r2plus1d"] = Field(
        "convolutional", description="`r2plus1d` is the full-size one"
    )
    audio_tower: Literal["convolutional", "transformer", "ast"] = Field(
        "convolutional", description="`ast` is the full-size one"
    )
    width: int = Field(12, ge=2, description="channels of the first picture layer of the small towers")
    embedding_dim: int = Field(32, ge=4, multiple_of=4, description="width of the vectors that are compared")
    frame_size: int = Field(32, ge=8, description="side of the square grey frames it sees")
    fps: int = Field(24, ge=2, le=60, description="frame rate it sees, and so the step of its offsets")
    num_mel_bins: int = Field(32, ge=8, description="mel bands it hears")
    max_offset_sec: float = Field(1.2, gt=0, description="offsets searched on both sides")
    crop_sec: float = Field(2.8, gt=0, description="length of the windows it is trained on")
    held_out_share: Share = Field(0.15, description="groups of its split kept for its own evaluation")
    held_out_classes: tuple[str, ...] = Field((), description="labels it is not trained on and is measured on")
    min_clips: int = Field(24, ge=2, description="with fewer clips to train on none is trained, and that is said")
    max_clips: int = Field(4000, ge=2, description="clips held in memory (0.25 MB each at 4 s); a seeded sample")
    steps: int = Field(200, ge=1, description="optimizer steps")
    batch: int = Field(16, ge=2, description="clips of a step; every other clip of it is a negative")
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    threads: int = Field(0, ge=0, description="threads of training; 0 takes the host's cores")

    @model_validator(mode="after")
    def _something_can_be_compared(self) -> ScorerConfig:
        least_sec = SYNC_WRONG_SEC + 1 / self.fps
        if self.max_offset_sec < least_sec:
            raise ValueError(
                f"max_offset_sec={self.max_offset_sec:g} leaves no wrong place to learn from at {self.fps} frames a "
                f"second; take at least {least_sec:.2f}"
            )
        pairs = round(self.crop_sec * self.fps) - 1
        if pairs <= math.ceil(SYNC_MIN_OVERLAP_SEC * self.fps):
            raise ValueError(
                f"crop_sec={self.crop_sec:g} holds {pairs} steps at {self.fps} frames a second, too few to shift "
                f"picture against sound with {SYNC_MIN_OVERLAP_SEC:g} s in common; take a longer one"
            )
        if self.audio_tower == "ast" and self.num_mel_bins % 16:
            raise ValueError(f"audio_tower ast sees bands in sixteens; num_mel_bins={self.num_mel_bins} is no multiple")
        return self


class JudgeConfig(ScorerConfig):
    """The scorer that judges generated video: another architecture and seed than the curator's, other clips."""

    seed: int = 102
    video_tower: Literal["convolutional", "recurrent", "r2plus1d"] = "recurrent"
    audio_tower: Literal["convolutional", "transformer", "ast"] = "transformer"
    fps: int = Field(6, ge=2, le=60, description="frame rate it sees: that of the generated windows")
    crop_sec: float = Field(2.0, gt=0, description="length of the windows it is trained on: that of generated ones")


class SelectConfig(Config):
    """Thresholds from signals to decisions; selection may only drop, correct an offset, or route to stage two."""

    min_loudness_dbfs: float = Field(-50.0, description="quieter clips are dropped `silent`")
    max_silence_share: Share = Field(
        0.97, description="clips with more 0.1 s blocks under -50 dBFS are dropped `silent`"
    )
    max_still_share: Share = Field(0.985, description="clips with more frozen frames are dropped `still`")
    max_black_share: Share = Field(0.5, description="clips with more black frames are dropped `black`")
    max_cuts: int = Field(0, ge=0, description="clips with more cuts are dropped `cut`")
    min_motion_peak: float = Field(0.0157, ge=0, description="motion of the most moving place (0..1); less: `still`")
    min_sync_score: float = Field(0.0, description="log odds that the sound belongs as placed; from here on it is left")
    min_sync_match: float = Field(
        0.0, description="log odds that it belongs at its best offset; less: `unsynced`, not corrected"
    )
    min_sync_confidence: Share = Field(
        0.4, description="probability of the best offset (within 0.1 s); less: `unsynced`, not corrected"
    )
    min_synchronisability: Share = Field(
        0.0, description="clips with less are dropped `not_synchronisable`; 0 keeps periodic ones that fit as placed"
    )
    min_sync_correlation: float = Field(
        0.25, description="without a curator: audio-motion correlation at the best offset; less: `unsynced`"
    )
    offset_tolerance_sec: float = Field(0.13, ge=0, description="sound late or early by up to this is left as it is")
    motion_lead_sec: float = Field(
        0.1, ge=0, description="motion comes before its sound: late sound is allowed this more"
    )
    min_offset_confidence: float = Field(1.5, ge=0, description="a larger offset is corrected from this confidence on")
    min_offset_correlation: float = Field(0.55, description="... and from this correlation on; else it is `unsynced`")
    max_pan_share: Share = Field(1.0, description="clips with more whole-picture motion are dropped `panned`; 1 is off")
    max_speech_share: Share = Field(1.0, description="clips with more speech are dropped `speech`; 1 is off")
    min_sharpness: float = Field(0.0, ge=0, description="clips with less are dropped `blurred` (squared grey levels)")
    max_letterbox_share: Share = Field(1.0, description="clips with larger bars are dropped `letterboxed`; 1 is off")
    min_image_audio_cosine: Cosine = Field(-1.0, description="clips with less are dropped `mismatched`; -1 is off")
    min_image_text_cosine: Cosine = Field(-1.0, description="clips with less are dropped `mismatched`; -1 is off")
    min_audio_text_cosine: Cosine = Field(-1.0, description="clips with less are dropped `mismatched`; -1 is off")
    max_per_class: int = Field(0, ge=0, description="pretraining clips of a class, the rest `class_full`; 0 is off")
    max_class_ratio: float = Field(
        0.0, ge=0, description="the same limit as a multiple of the median class; the lower one holds; 0 is off"
    )
    weighting: Literal["none", "sync"] = Field(
        "none", description="weight of pretraining clips: all 1, or by the learned sync score with mean 1"
    )
    max_finetune_clips: int = Field(10_000, ge=0, description="upper bound of clips routed to stage two")
    examples_per_reason: int = Field(3, ge=0, description="clips shown as strips for each reason in `funnel.html`")


class ReviewConfig(Config):
    """Human verdicts; `simulated` exists for demonstrations and says so in every row."""

    reviewer: Literal["none", "simulated"] = Field("none", description="`simulated` reads the planted truth table")
    clips: int = Field(64, ge=0, description="clips the simulated reviewer looks at")
    error_rate: Share = Field(0.02, description="share of wrong verdicts of the simulated reviewer")
    seed: int = 5


class WindowConfig(Config):
    """A training example: so many frames at such a rate and size, with audio margin on both sides."""

    num_frames: int = Field(12, ge=2, description="video frames of a window")
    fps: int = Field(6, ge=1, description="frames a second of a window")
    size: int = Field(32, ge=16, multiple_of=8, description="height in pixels")
    width: int | None = Field(None, ge=16, multiple_of=8, description="width in pixels; None: as the height")
    audio_margin_sec: float = Field(0.5, ge=0, description="audio kept before and after the window")

    @property
    def duration_sec(self) -> Fraction:
        """Length of a window in seconds."""
        return Fraction(self.num_frames, self.fps)

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.size, self.width or self.size


class AdapterConfig(Config):
    """Windowed audio cross-attention after the chosen blocks of the frozen transformer."""

    inner_dim: int = Field(8, ge=1, description="width of queries, keys and values, all heads together")
    heads: int = Field(1, ge=1, description="attention heads; divides inner_dim")
    audio_dim: int = Field(24, ge=1, description="width to which the features of every encoder are projected")
    window_sec: MaybeInfinite = Field(
        0.25, ge=0, description="audio seen on either side of a latent frame's own slice; 0 is the slice, inf sees all"
    )
    placement: Literal["all", "first_half", "second_half"] = Field("all", description="blocks that may carry adapters")
    every: int = Field(1, ge=1, description="adapters after every n-th of these blocks")
    low_rank: int = Field(
        0, ge=0, description="rank of an update of self-attention in every block (LoRA), within the budget; 0 is none"
    )
    max_share: Share = Field(0.019, description="trainable parameters over those of the frozen transformer, at most")

    @model_validator(mode="after")
    def _heads_divide(self) -> AdapterConfig:
        if self.inner_dim % self.heads:
            raise ValueError(f"adapter.inner_dim={self.inner_dim} is not divisible by adapter.heads={self.heads}")
        return self


class BackboneConfig(Config):
    """A frozen video transformer: a saved one by path or hub id, or the shape of a stand-in to train first."""

    family: Literal["wan", "ltx", "cogvideox"] = "wan"
    pretrained: str | None = Field(None, description="path or hub id of a diffusers model; None trains the stand-in")
    revision: str | None = Field(None, description="commit or tag on the hub; None takes the newest")
    dtype: Literal["fp32", "bf16"] = Field("fp32", description="frozen weights in memory; the stand-in keeps fp32")
    prediction: Literal["velocity", "clean_residual"] = Field(
        "velocity",
        description="what the stand-in puts out; `clean_residual`: clean latents minus the first frame. A pretrained "
        "one predicts what its scheduler says",
    )
    num_layers: int = Field(4, ge=1, description="blocks of the stand-in")
    num_attention_heads: int = Field(4, ge=1, description="heads of the stand-in")
    attention_head_dim: int = Field(32, ge=8, multiple_of=2, description="width of a head of the stand-in")
    ffn_dim: int = Field(512, ge=8, description="feed-forward width of the stand-in")
    patch_size: int = Field(4, ge=1, description="spatial patch of the stand-in in latent pixels")
    temporal_stride: int = Field(
        1, ge=1, description="frames that the stand-in's codec stacks in a latent, after the first frame's own"
    )
    text_dim: int = Field(32, ge=8, description="width of the stand-in's text encoder")

    @model_validator(mode="after")
    def _stand_in_is_wan(self) -> BackboneConfig:
        if self.pretrained is None and self.family != "wan":
            raise ValueError(
                f"family={self.family} has no stand-in to train; name a checkpoint with model.backbone.pretrained, or "
                "leave family=wan"
            )
        return self


class ModelConfig(Config):
    """Backbone, audio features and adapter together."""

    backbone: BackboneConfig = BackboneConfig()
    audio: AudioConfig = AudioConfig()
    adapter: AdapterConfig = AdapterConfig()


class BucketConfig(Config):
    """A further size and length of windows, for clips that fit it better than the window of the model."""

    num_frames: int = Field(ge=2, description="video frames of a window")
    size: int = Field(ge=16, multiple_of=8, description="height in pixels")
    width: int | None = Field(None, ge=16, multiple_of=8, description="width in pixels; None: as the height")


class EncodeConfig(Config):
    """Windows of clips to WebDataset shards."""

    seed: int = 3
    windows_per_clip: int = Field(4, ge=1, description="seeded windows of every training clip")
    flip: bool = Field(True, description="every second window is mirrored left to right")
    samples_per_shard: int = Field(256, ge=1, description="samples in one tar file")
    workers: int = Field(
        1, ge=1, description="encoding processes; shards are the same for any number", json_schema_extra=HOW
    )
    buckets: tuple[BucketConfig, ...] = Field(
        (),
        description="further sizes and lengths beside `window`; a clip goes to the one that fits it best, held-out "
        "ones to `window`",
    )


class TrainConfig(Config):
    """One run of the one trainer."""

    seed: int = 0
    steps: int = Field(100, ge=1, description="optimizer steps")
    global_batch: int = Field(16, ge=1, description="samples of one optimizer step over all ranks")
    micro_batch: int = Field(16, ge=1, description="samples of one forward pass on one rank", json_schema_extra=HOW)
    learning_rate: float = Field(1e-3, gt=0)
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="learning rate after the warm-up")
    warmup_steps: int = Field(20, ge=0, description="linear warm-up")
    min_lr_share: Share = Field(
        0.1, description="learning rate at the end of the schedule, as a share of the peak; no matter to `constant`"
    )
    weight_decay: float = Field(0.0, ge=0)
    gradient_clip: float = Field(1.0, gt=0, description="largest global gradient norm")
    zero_stage: int = Field(0, ge=0, le=3, description="DeepSpeed ZeRO stage", json_schema_extra=HOW)
    precision: Literal["fp32", "bf16"] = "fp32"
    activation_checkpointing: bool = Field(
        False,
        description="blocks are computed again in the backward pass instead of keeping their activations",
        json_schema_extra=HOW,
    )
    ema_decay: float = Field(
        0.0, ge=0, lt=1, description="decay of the moving average of trained weights that is saved; 0 saves the last"
    )
    replay_share: float = Field(
        0.0, ge=0, lt=1, description="stage two: share of samples that come from stage one's data"
    )
    audio_dropout: Share = Field(0.1, description="samples whose audio is replaced by the null audio")
    text_dropout: Share = Field(0.1, description="samples whose caption is replaced by the null caption")
    sigma_shift: float = Field(1.0, gt=0, description="above 1 favours high noise levels in training")
    motion_weight: float = Field(0.0, ge=0, description="extra loss weight on moving pixels; 0 is the plain objective")
    weighting: Literal["none", "loss", "sampling"] = Field(
        "loss", description="what selection's weights do: nothing, scale a sample's loss, or say how often it is seen"
    )
    checkpoint_every: int = Field(100, ge=1, description="optimizer steps between checkpoints", json_schema_extra=HOW)
    validate_every: int = Field(100, ge=1, description="optimizer steps between held-out losses")
    held_out: int = Field(64, ge=1, description="held-out samples measured, at most")
    keep_checkpoints: int = Field(2, ge=1, description="checkpoints kept", json_schema_extra=HOW)
    early_stop: int = Field(
        0,
        ge=0,
        description="held-out losses in a row without a new best after which training ends, and the best is what is "
        "saved; 0 never",
    )
    sample_every: int = Field(
        0, ge=0, description="optimizer steps between sample videos; 0 makes none", json_schema_extra=HOW
    )
    samples: int = Field(2, ge=1, description="held-out windows whose videos are sampled", json_schema_extra=HOW)
    sample_steps: int = Field(8, ge=1, description="denoising steps of a sample video", json_schema_extra=HOW)


class TrainJobConfig(Config):
    """A Kubeflow Trainer job: where it runs and what its pods get."""

    namespace: str = Field("soundstage", description="namespace of the job")
    runtime: str = Field("soundstage-deepspeed", description="ClusterTrainingRuntime, on the torch policy")
    image: str = Field("", description="image of the trainer, by digest; empty: that of the runtime")
    nodes: int = Field(1, ge=1, description="pods; ranks are divided among them")
    gpus_per_node: int = Field(8, ge=0, description="GPUs of a pod, one a rank; 0 trains on CPU")
    cpu: str = Field(
        "", coerce_numbers_to_str=True, description="CPU of a pod, as Kubernetes writes it; empty: that of the runtime"
    )
    memory: str = Field("", description="memory of a pod; empty: that of the runtime")
    queue: str = Field("", description="Kueue's LocalQueue; empty: started at once")
    priority_class: str = Field("", description="Kueue's WorkloadPriorityClass")
    workspace_claim: str = Field(
        "", description="PersistentVolumeClaim that holds the workspace; empty: the runtime mounts it"
    )
    workspace_path: str = Field("/workspace", pattern="^/", description="where pods see the workspace")
    service_account: str = Field("", description="of the pods; empty: that of the runtime")
    env: dict[str, Annotated[str, Field(coerce_numbers_to_str=True)]] = Field(
        {}, description="environment variables of the pods"
    )
    secret_env: dict[str, Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[-._a-zA-Z0-9]+$")]] = Field(
        {}, description="environment variables of the pods from Secrets, each as `secret name/key`"
    )
    node_selector: dict[str, str] = Field({}, description="labels that nodes must have")
    deadline_sec: int = Field(7 * 86400, ge=60, description="the job is ended by then, whatever it does")
    poll_sec: float = Field(5.0, gt=0, description="seconds between looks at the job")
    outage_sec: float = Field(900.0, gt=0, description="an API server silent for longer ends the stage")

    @model_validator(mode="after")
    def _launcher_sets_its_own(self) -> TrainJobConfig:
        both = sorted(self.env.keys() & self.secret_env.keys())
        own = sorted(name for name in self.env.keys() | self.secret_env.keys() if name.startswith("PET_"))
        if both:
            raise ValueError(f"trainjob.env and trainjob.secret_env both set {', '.join(both)}; leave one")
        if own:
            raise ValueError(f"trainjob.env sets {', '.join(own)}: PET_ variables are Kubeflow Trainer's; drop them")
        return self


class LauncherConfig(Config):
    """Who starts training processes."""

    kind: Literal["local", "trainjob"] = Field("local", description="processes here, or a Kubeflow Trainer job")
    ranks: int = Field(1, ge=1, description="processes over all hosts")
    threads: int = Field(0, ge=0, description="threads of a rank; 0 divides the host's cores")
    hang_sec: float = Field(
        1800.0, gt=0, description="a rank that has not moved for so long is taken for hung, and the job is ended"
    )
    grace_sec: float = Field(
        120.0, gt=0, description="time to save a checkpoint when asked to stop; what runs longer is killed"
    )
    trainjob: TrainJobConfig = TrainJobConfig()

    @model_validator(mode="after")
    def _ranks_fill_nodes(self) -> LauncherConfig:
        nodes, gpus = self.trainjob.nodes, self.trainjob.gpus_per_node
        if self.kind != "trainjob":
            return self
        if gpus and self.ranks != nodes * gpus:
            raise ValueError(
                f"launcher.ranks={self.ranks} is not launcher.trainjob.nodes={nodes} times gpus_per_node={gpus}; a "
                f"rank takes one GPU: set ranks={nodes * gpus}, or other nodes or GPUs"
            )
        if self.ranks % nodes:
            raise ValueError(f"launcher.ranks={self.ranks} cannot be divided among launcher.trainjob.nodes={nodes}")
        return self


class EvaluateConfig(Config):
    """Generation and scoring of the test split."""

    seed: int = Field(0, description="seed of the sampler's noise")
    clips: int = Field(64, ge=1, description="test clips, one window each")
    num_inference_steps: int = Field(8, ge=1, description="denoising steps")
    audio_guidance_scale: float = Field(1.0, ge=0, description="1 is no guidance")
    text_guidance_scale: float = Field(1.0, ge=0, description="1 is no guidance")
    batch: int = Field(16, ge=1, description="videos generated together")
    late_frames: int = Field(2, ge=1, description="delay of the `late` control, in window frames")
    bootstrap_samples: int = Field(2000, ge=100, description="resamples of an interval")
    samples_shown: int = Field(6, ge=0, description="clips whose videos are kept for the report")


NAME_PATTERN = r"^[A-Za-z0-9._-]+$"


class RegistryConfig(Config):
    """The registered model's name."""

    name: str = Field("soundstage-tiny", pattern=NAME_PATTERN)


class PromoteConfig(Config):
    """The gate: all rules hold, or the champion stays."""

    min_true: float = Field(0.60, description="mean motion correlation with the true audio, at least")
    max_swapped: float = Field(0.20, description="with another clip's audio, at most")
    max_late: float = Field(0.20, description="with the clip's own audio some frames late, at most")
    max_stage_two_loss: float = Field(0.03, description="stage two may fall below stage one by at most this")
    min_clips: int = Field(64, ge=2, description="test clips a verdict needs")
    max_champion_loss: float = Field(0.03, description="the candidate may fall below the champion by at most this")


class TrackingConfig(Config):
    """Where runs are followed."""

    uri: str | None = Field(None, description="MLflow URI; None is SQLite inside the workspace")
    experiment: str = "soundstage"
    system_metrics: bool = True


class SoundstageConfig(Config):
    """The whole tree, as a preset and its overrides resolve it."""

    preset: str = "tiny"
    trial: bool = Field(False, description="a run with capped steps: judged, never promoted")
    synth: SynthConfig = SynthConfig()
    ingest: IngestConfig = IngestConfig()
    split: SplitConfig = SplitConfig()
    curator: ScorerConfig = ScorerConfig()
    judge: JudgeConfig = JudgeConfig()
    contracts: ContractsConfig = ContractsConfig()
    score: ScoreConfig = ScoreConfig()
    review: ReviewConfig = ReviewConfig()
    select: SelectConfig = SelectConfig()
    window: WindowConfig = WindowConfig()
    model: ModelConfig = ModelConfig()
    encode: EncodeConfig = EncodeConfig()
    backbone: TrainConfig = TrainConfig()
    pretrain: TrainConfig = TrainConfig()
    finetune: TrainConfig = TrainConfig()
    launcher: LauncherConfig = LauncherConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    registry: RegistryConfig = RegistryConfig()
    promote: PromoteConfig = PromoteConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _latents_are_whole(self) -> SoundstageConfig:
        frames, stride = self.window.num_frames, self.model.backbone.temporal_stride
        if (frames - 1) % stride:
            below = frames - (frames - 1) % stride
            raise ValueError(
                f"window.num_frames={frames} is no whole number of latents at model.backbone.temporal_stride={stride}: "
                f"a latent of the first frame, then {stride} frames each; take {below} or {below + stride}"
            )
        return self
