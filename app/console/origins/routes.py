"""`/api/v1/origins`: for admins."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.console.dependencies import By, Given, IfMatch, etag
from app.console.origins.schemas import NewOrigin, OriginChange, OriginShown
from app.console.schemas import PAGE, Cursor, Id, Limit, Page, cursor_of, read_cursor
from app.console.store.tables import Origin

router = APIRouter(prefix="/origins", tags=["origins"])


@router.get("")
async def list_origins(
    by: By,
    given: Given,
    limit: Annotated[Limit, Query()] = PAGE,
    after: Annotated[Cursor, Query()] = None,
) -> Page[OriginShown]:
    """Origins by their text."""
    cursor = read_cursor(after, str)
    found, following = await given.origins.list(by, cursor[0] if cursor else None, limit)
    return Page(
        items=[OriginShown.model_validate(one) for one in found],
        next=cursor_of(following) if following else None,
    )


@router.post("", status_code=201)
async def create_origin(new: NewOrigin, by: By, given: Given, response: Response) -> OriginShown:
    """Let pages of an origin call the API, from the next request on."""
    return _shown(await given.origins.create(by, new), response)


@router.get("/{origin_id}")
async def read_origin(origin_id: Id, by: By, given: Given, response: Response) -> OriginShown:
    """One origin."""
    return _shown(await given.origins.get(by, origin_id), response)


@router.patch("/{origin_id}")
async def change_origin(
    origin_id: Id, change: OriginChange, version: IfMatch, by: By, given: Given, response: Response
) -> OriginShown:
    """Change an origin, from the next request on."""
    return _shown(await given.origins.change(by, origin_id, change, version), response)


@router.delete("/{origin_id}", status_code=204)
async def delete_origin(origin_id: Id, version: IfMatch, by: By, given: Given) -> None:
    """Let its pages in no more."""
    await given.origins.delete(by, origin_id, version)


def _shown(origin: Origin, response: Response) -> OriginShown:
    response.headers.update(etag(origin.version))
    return OriginShown.model_validate(origin)
