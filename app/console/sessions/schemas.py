"""Sessions, as the API gives them."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from app.console.schemas import Schema


class SessionShown(Schema):
    """A browser that is logged in."""

    id: str
    user_id: str
    user: str = Field(description="The user's name.")
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    address: str
    user_agent: str
    current: bool = Field(description="Whether it is the one that asks.")
