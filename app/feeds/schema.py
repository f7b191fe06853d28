"""The base of everything that an operator writes in `feeds.toml`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Base of every part of a feed: immutable, and a misspelt field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
