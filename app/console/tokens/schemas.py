"""Tokens, as the API takes and gives them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from app.console.schemas import Schema


class ProgramLogin(Schema):
    """A program's login."""

    name: str = Field(max_length=1000)
    password: str = Field(max_length=1000)


class Refresh(Schema):
    """A refresh token, which is used once."""

    refresh_token: str = Field(max_length=200)


class TokensIssued(Schema):
    """An access token, and the refresh token that gives the next. Neither can be seen again."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - the word, no token
    expires_in: int = Field(ge=0, description="Seconds that the access token is valid.")
    refresh_token: str
    refresh_expires_at: datetime
    family: str = Field(description="The id of this login; all that is refreshed from it has it.")


class FamilyShown(Schema):
    """A program that is logged in: a family of tokens."""

    family: str
    user_id: str
    user: str = Field(description="The user's name.")
    begun_at: datetime = Field(description="When it logged in.")
    refreshed_at: datetime = Field(description="When it was last issued tokens.")
    expires_at: datetime = Field(description="When it ends, if it is not refreshed.")
    address: str
    user_agent: str
    current: bool = Field(description="Whether it is the one that asks.")
