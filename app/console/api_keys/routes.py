"""`/api/v1/api-keys`: for admins."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from app.console.api_keys.schemas import ApiKeyMade, ApiKeyShown, NewApiKey
from app.console.dependencies import By, Given, ShownOnce
from app.console.schemas import (
    PAGE,
    Cursor,
    Id,
    Limit,
    Page,
    moment_cursor,
    read_moment_cursor,
)
from app.console.store.tables import ApiKey

router = APIRouter(prefix="/api-keys", tags=["api-keys"])


@router.get("")
async def list_keys(
    by: By,
    given: Given,
    limit: Annotated[Limit, Query()] = PAGE,
    after: Annotated[Cursor, Query()] = None,
) -> Page[ApiKeyShown]:
    """Keys, the newest first; those that ended are listed for 90 days more."""
    found, following = await given.api_keys.list(by, read_moment_cursor(after), limit)
    return Page(
        items=[_shown(key) for key in found],
        next=moment_cursor(following),
    )


@router.post("", status_code=201, dependencies=[ShownOnce])
async def create_key(new: NewApiKey, by: By, given: Given) -> ApiKeyMade:
    """Make a key. The secret in the answer is shown this once."""
    key, secret = await given.api_keys.create(by, new)
    return ApiKeyMade(key=_shown(key), secret=secret)


@router.delete("/{key_id}", status_code=204)
async def revoke_key(key_id: Id, by: By, given: Given) -> None:
    """Refuse a key from now on."""
    await given.api_keys.revoke(by, key_id)


def _shown(key: ApiKey) -> ApiKeyShown:
    names = (
        "id", "name", "prefix", "role", "owner_id", "created_at", "expires_at", "last_used_at", "revoked_at",
    )  # fmt: skip
    fields = {name: getattr(key, name) for name in names}
    return ApiKeyShown.model_validate(fields | {"owner": key.owner.name})
