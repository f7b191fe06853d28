"""`/api/v1/feeds`: how each feed is doing, and what an operator does with it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from app.console.dependencies import By, Given, ShownOnce
from app.console.errors import Invalid
from app.console.feeds.schemas import (
    AnyRange,
    FeedDetail,
    Key,
    OverviewShown,
    PauseAsked,
    PauseShown,
    PreviewAsked,
    PreviewShown,
    Range,
    RewindAsked,
    RewindShown,
)
from app.console.feeds.shown import (
    counted_shown,
    detail_shown,
    overview_shown,
    pause_shown,
    preview_shown,
    rewound_shown,
)
from app.console.problems import REFUSES

router = APIRouter(prefix="/feeds", tags=["feeds"])

Name = Annotated[str, Path(min_length=1, max_length=100, description="The feed.")]


@router.get("")
async def list_feeds(by: By, given: Given) -> OverviewShown:
    """A line a feed, workers and beat, and what fails; a few seconds old at most."""
    return overview_shown(await given.feeds.overview(by))


@router.get("/{name}")
async def read_feed(
    name: Name, by: By, given: Given, range: Annotated[AnyRange, Query()] = Range.HOUR  # noqa: A002 - its name in the address
) -> FeedDetail:  # fmt: skip
    """One feed: its past, configuration, cursor, gaps and certificate."""
    return detail_shown(await given.feeds.detail(by, name, range))


@router.get("/{name}/preview", responses=REFUSES[409])
async def preview(name: Name, key: Annotated[Key, Query()], by: By, given: Given) -> PreviewShown:
    """The request that would be sent for a row, without the row's values. Nothing is sent."""
    return preview_shown(await given.feeds.preview(by, name, key))


@router.post("/{name}/preview", dependencies=[ShownOnce])
async def reveal_preview(name: Name, asked: PreviewAsked, by: By, given: Given) -> PreviewShown:
    """The same with the row's values, for a reason, on record."""
    return preview_shown(await given.feeds.preview(by, name, asked.key, asked.why))


@router.post("/{name}/pause")
async def pause(name: Name, asked: PauseAsked, by: By, given: Given) -> PauseShown:
    """Pause polling, sending or both. What is owed stays owed; the first reason stays."""
    return pause_shown(await given.feeds.pause(by, name, asked.part, asked.why))


@router.post("/{name}/resume")
async def resume(name: Name, asked: PauseAsked, by: By, given: Given) -> PauseShown:
    """Go on with polling, sending or both."""
    return pause_shown(await given.feeds.resume(by, name, asked.part, asked.why))


@router.post("/{name}/rewind")
async def rewind(name: Name, asked: RewindAsked, by: By, given: Given) -> RewindShown:
    """Move the feed's cursor. Without a token it is counted what that would do, and nothing moves;
    with the token of that count, and a reason, it is done."""
    if asked.token is None:
        return counted_shown(await given.feeds.count_rewind(by, name, asked.to))
    if asked.why is None:
        raise Invalid("say why", "body.why")
    done = await given.feeds.rewind(
        by, name, asked.to, asked.token, asked.why, deliver_again=asked.deliver_again
    )
    return rewound_shown(name, done)
