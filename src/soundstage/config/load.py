"""From a preset, a file and dotted overrides to one resolved tree, in this order, the later winning."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from ..errors import ConfigError
from .base import Config
from .tree import SoundstageConfig

ConfigT = TypeVar("ConfigT", bound=Config)


def preset_names() -> list[str]:
    """Names of the presets that ship with the package, sorted."""
    folder = resources.files("soundstage.config") / "presets"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def load_config(
    preset: str | None = None, file: Path | None = None, overrides: Sequence[str] = (), default_preset: str = "tiny"
) -> SoundstageConfig:
    """Resolve the tree: preset, then YAML file (which may name its own preset), then `a.b=c` overrides.

    Raises:
        ConfigError: an unknown preset or key, an unreadable file, a value out of range; near names are suggested.
    """
    from_file: dict[str, Any] = {} if file is None else _read_yaml(file)
    named = str(preset or from_file.get("preset") or default_preset)
    values = _read_preset(named)
    values = _merge(values, from_file)
    values["preset"] = named
    for override in overrides:
        _apply_override(values, override)
    return parse(SoundstageConfig, values, origin=f"preset {named}" + (f" and {file}" if file else ""))


def parse(kind: type[ConfigT], values: Mapping[str, Any], origin: str) -> ConfigT:
    """Validate `values` as `kind`, turning pydantic's report into one readable `ConfigError`."""
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        lines = [_explain(kind, item) for item in error.errors()]
        raise ConfigError(f"configuration from {origin} is not usable:\n  " + "\n  ".join(lines)) from error


def _explain(kind: type[Config], item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"]) or "(whole tree)"
    if item["type"] == "extra_forbidden":
        return f"{where}: unknown key{_suggestion(str(item['loc'][-1]), _known_keys(kind, item['loc'][:-1]))}"
    return f"{where}: {item['msg']} (found {item.get('input')!r})"


def _known_keys(kind: type[Config], path: Sequence[Any]) -> list[str]:
    for part in path:
        field = kind.model_fields.get(str(part))
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, Config)):
            return []
        kind = annotation
    return list(kind.model_fields)


def _suggestion(name: str, known: Sequence[str]) -> str:
    return _near(name, known) or (f"; known here: {', '.join(known)}" if known else "")


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _read_preset(name: str) -> dict[str, Any]:
    if name not in preset_names():
        raise ConfigError(
            f"preset {name!r} does not exist{_near(name, preset_names())}; presets: {', '.join(preset_names())}"
        )
    text = (resources.files("soundstage.config") / "presets" / f"{name}.yaml").read_text()
    return _mapping(text, f"preset {name}")


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text()
    except OSError as error:
        raise ConfigError(f"configuration file {file} cannot be read: {error.strerror}; check the path") from error
    return _mapping(text, str(file))


def _mapping(text: str, origin: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{origin} must hold a mapping of keys, found {type(values).__name__}")
    return values


def _merge(base: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in extra.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return merged


def _apply_override(values: dict[str, Any], override: str) -> None:
    path, separator, text = override.partition("=")
    if not separator or not path:
        raise ConfigError(f"override {override!r} is not of the form a.b=value; example: --set pretrain.steps=20")
    if path == "preset":  # the tree is already that of another one: only its name would change
        raise ConfigError(f"override {override!r}: a preset is chosen with --preset, or by the configuration file")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: the value is not valid YAML: {error}") from error
    if isinstance(value, dict) and not text.lstrip().startswith("{"):
        value = text  # `source=synth:` is a word that ends in a colon, not a mapping
    node = values
    *parents, leaf = path.split(".")
    for part in parents:
        child = node.get(part)
        node[part] = dict(child) if isinstance(child, dict) else {}
        node = node[part]
    node[leaf] = value
