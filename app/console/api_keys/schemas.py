"""API keys, as the API takes and gives them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from app.console.schemas import Instant, Line, Schema, any_spelling
from app.console.security.roles import Role


class NewApiKey(Schema):
    """A key to be made."""

    name: Annotated[Line, Field(min_length=1, max_length=100, description="What it is for.")]
    role: Annotated[Role, any_spelling(Role)] = Field(
        description="What it may do; never more than its owner, who is whoever makes it."
    )
    expires_at: Instant | None = Field(
        default=None, description="When it ends; null: when it is revoked."
    )


class ApiKeyShown(Schema):
    """A key; of the key itself, how it begins."""

    id: str
    name: str
    prefix: str
    role: Role
    owner_id: str
    owner: str = Field(description="The owner's name.")
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class ApiKeyMade(Schema):
    """A key, and the secret to hand over: it cannot be seen again."""

    key: ApiKeyShown
    secret: str
