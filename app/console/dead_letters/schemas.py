"""Groups of dead letters, as the API takes and gives them."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from app.console.deliveries.schemas import MOST_FEEDS, FeedName, Moment
from app.console.schemas import Schema


class GroupsAsked(Schema):
    """Which dead letters are grouped."""

    feed: list[FeedName] = Field(default=[], max_length=MOST_FEEDS)
    since: Moment | None = Field(default=None, description="That died then or later.")
    until: Moment | None = Field(default=None, description="That died before then.")


class GroupShown(Schema):
    """Dead letters of one feed and status, whose reasons are of a kind."""

    feed: str
    status: int | None = Field(description="HTTP status of the last attempt; null: none.")
    reason_kind: str = Field(description="What their reasons have in common.")
    count: int
    first: datetime = Field(description="When the first of them died.")
    last: datetime
    example_ref: str
    example_id: str
    example_reason: str
    filter: str = Field(description="The query that finds them: of deliveries and of operations.")


class GroupsShown(Schema):
    """Groups of dead letters, the largest first."""

    items: list[GroupShown]
    looked_at: int = Field(description="Dead letters that were looked at, the newest.")
    complete: bool = Field(description="Else there are more than were looked at.")
