"""Typed configuration: the tree, its loading, and the slice each stage reads."""

from .base import Config
from .load import load_config, parse, preset_names
from .slices import stage_slice
from .tree import SoundstageConfig

__all__ = ["Config", "SoundstageConfig", "load_config", "parse", "preset_names", "stage_slice"]
