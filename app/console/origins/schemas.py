"""Origins, as the API takes and gives them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field

from app.console.origins.normal import normal_origin
from app.console.schemas import Line, Schema, Version

ExactOrigin = Annotated[
    str,
    Field(
        min_length=8,
        max_length=300,
        description="`https://host` or `https://host:port`: no path, no `*`. `http://` on loopback alone.",
        examples=["https://status.example"],
    ),
    AfterValidator(normal_origin),
]
Note = Annotated[Line, Field(max_length=300, description="What it is for.")]


class NewOrigin(Schema):
    """An origin to be let in."""

    origin: ExactOrigin
    note: Note = ""
    enabled: bool = True


class OriginChange(Schema):
    """What of an origin changes; what is not given stays."""

    origin: ExactOrigin | None = None
    note: Note | None = None
    enabled: bool | None = None


class OriginShown(Schema):
    """An origin whose pages may call the API, while it is enabled."""

    id: str
    origin: str
    note: str
    enabled: bool
    created_at: datetime
    created_by: str
    version: Version
