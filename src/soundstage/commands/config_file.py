"""A resolved configuration as a YAML file that explains itself: every key with its meaning."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import yaml

from ..config import Config, SoundstageConfig

_WIDTH = 110


def render(config: SoundstageConfig, head: str) -> str:
    """YAML text of the whole tree; `load_config` gives the same tree back from it. `head` opens it as a comment."""
    lines = [*_comment(head, ""), "", *_lines(config, "")]
    return "\n".join(lines).rstrip() + "\n"


def _lines(config: Config, indent: str) -> Iterator[str]:
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, Config):
            if not indent:
                yield ""
            yield from _comment((type(value).__doc__ or "").strip(), indent)
            yield f"{indent}{name}:"
            yield from _lines(value, indent + "  ")
        else:
            line = f"{indent}{name}: {_scalar(config.model_dump(mode='python')[name])}"
            yield f"{line}  # {field.description}" if field.description else line


def _comment(text: str, indent: str) -> Iterator[str]:
    for line in textwrap.wrap(text, _WIDTH):
        yield f"{indent}# {line}"


def _scalar(value: Any) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    # Dumped inside a list, a scalar keeps YAML's own spelling (.inf, 1.0e-05) and gets no document end.
    return yaml.safe_dump([plain], default_flow_style=True, width=10_000).strip()[1:-1]
