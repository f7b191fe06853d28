"""`/api/v1/operations`: replays, cancels and acknowledgements of many deliveries."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from app.console.dependencies import By, Given, IfMatch, etag
from app.console.operations.schemas import (
    Chosen,
    InSetShown,
    NewOperationAsked,
    OperationsAsked,
    OperationShown,
    PreviewShown,
    Word,
    shown_in_set,
    shown_operation,
)
from app.console.schemas import PAGE, Cursor, Limit, Page
from app.core.operations import Operation

router = APIRouter(prefix="/operations", tags=["operations"])

AnyId = Annotated[str, Path(max_length=64, description="The id of an operation.")]


@router.post("/preview")
async def preview_operation(chosen: Chosen, by: By, given: Given) -> PreviewShown:
    """What an operation would be about: how many, a few of them, and the request of one, masked."""
    return await given.operations.preview(by, chosen)


@router.post("", status_code=201)
async def create_operation(
    new: NewOperationAsked, by: By, given: Given, response: Response
) -> OperationShown:
    """Make an operation. Its set is frozen shortly after; nothing moves until it is started."""
    operation = await given.operations.create(by, new)
    response.headers["Location"] = f"/api/v1/operations/{operation.id}"
    return _shown(operation, response)


@router.get("")
async def list_operations(
    asked: Annotated[OperationsAsked, Query()], by: By, given: Given
) -> Page[OperationShown]:
    """Operations, the newest first."""
    page, following = await given.operations.page(by, asked)
    return Page(items=[shown_operation(one) for one in page], next=following)


@router.get("/{operation_id}")
async def read_operation(
    operation_id: AnyId, by: By, given: Given, response: Response
) -> OperationShown:
    """One operation, its numbers and its history."""
    return _shown(await given.operations.get(by, operation_id), response)


@router.get("/{operation_id}/deliveries")
async def list_set(
    operation_id: AnyId,
    by: By,
    given: Given,
    limit: Annotated[Limit, Query()] = PAGE,
    after: Annotated[Cursor, Query()] = None,
) -> Page[InSetShown]:
    """The frozen set, in the order in which it is gone through, with what became of each."""
    page, following = await given.operations.deliveries(by, operation_id, limit, after)
    return Page(items=[shown_in_set(one) for one in page], next=following)


@router.post("/{operation_id}/start")
async def start_operation(
    operation_id: AnyId, word: Word, version: IfMatch, by: By, given: Given, response: Response
) -> OperationShown:
    """Begin to act on the frozen set."""
    moved = await given.operations.move(by, operation_id, "start", word.why, version)
    return _shown(moved, response)


@router.post("/{operation_id}/resume")
async def resume_operation(
    operation_id: AnyId, word: Word, version: IfMatch, by: By, given: Given, response: Response
) -> OperationShown:
    """Go on. One that failures stopped begins anew, canary first, with what is dead again."""
    moved = await given.operations.move(by, operation_id, "resume", word.why, version)
    return _shown(moved, response)


@router.post("/{operation_id}/pause")
async def pause_operation(
    operation_id: AnyId, word: Word, by: By, given: Given, response: Response
) -> OperationShown:
    """Have it stand still at the end of the chunk under way; whatever its version."""
    return _shown(await given.operations.move(by, operation_id, "pause", word.why), response)


@router.post("/{operation_id}/abandon")
async def abandon_operation(
    operation_id: AnyId, word: Word, by: By, given: Given, response: Response
) -> OperationShown:
    """Have it end at the end of the chunk under way; whatever its version."""
    return _shown(await given.operations.move(by, operation_id, "abandon", word.why), response)


def _shown(operation: Operation, response: Response) -> OperationShown:
    response.headers.update(etag(operation.version))
    return shown_operation(operation)
