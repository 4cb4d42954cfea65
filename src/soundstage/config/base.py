"""What every configuration class shares: frozen, unknown keys refused, canonical text."""

from __future__ import annotations

import json

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A frozen piece of configuration; a key that no field names is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def canonical_json(self) -> str:
        """The one text of this configuration: sorted keys, no spaces; equal configs give equal bytes."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
