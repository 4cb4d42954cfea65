"""What every configuration class shares: frozen, unknown keys refused, canonical text."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict

HOW: dict[str, Any] = {"how": True}
"""Marks a field that says how work is done, not what comes of it: `Field(..., json_schema_extra=HOW)`."""


class Config(BaseModel):
    """A frozen piece of configuration; a key that no field names is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def canonical_json(self) -> str:
        """The one text of this configuration: sorted keys, no spaces; equal configs give equal bytes."""
        return _text(self.model_dump(mode="json"))

    def work_json(self) -> str:
        """The text of what decides the result: as `canonical_json`, without the fields that are marked `HOW`.

        So a run that goes on elsewhere, on other ranks or with less memory, is the same work and finds its checkpoints.
        """
        return _text(_deciding(self, self.model_dump(mode="json")))


def _text(values: Any) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


def _deciding(value: Any, dumped: Any) -> Any:
    """`dumped` without what is marked in `value`, whose dump it is."""
    if isinstance(value, Config):
        fields = type(value).model_fields
        return {
            name: _deciding(getattr(value, name), dumped[name])
            for name, field in fields.items()
            if field.json_schema_extra != HOW
        }
    if isinstance(value, dict) and isinstance(dumped, dict):
        return {key: _deciding(item, dumped[key]) for key, item in value.items() if key in dumped}
    if isinstance(value, list | tuple):
        return [_deciding(item, each) for item, each in zip(value, dumped, strict=True)]
    return dumped
