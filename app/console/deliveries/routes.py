"""`/api/v1/deliveries`: search, look at one, reveal its row, replay, cancel, acknowledge."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.responses import StreamingResponse

from app.console.deliveries.exporting import Export, ExportAsked, Format, PayloadExport
from app.console.deliveries.ref import LONGEST_REF
from app.console.deliveries.schemas import DeliverySearch
from app.console.deliveries.shown import (
    Acknowledge,
    Act,
    Action,
    DeliveryPage,
    DeliveryShown,
    Done,
    Replay,
    RequestShown,
    Reveal,
    Revealed,
)
from app.console.dependencies import By, Given, ShownOnce
from app.console.problems import REFUSES

router = APIRouter(prefix="/deliveries", tags=["deliveries"])

AnyRef = Annotated[str, Path(max_length=LONGEST_REF, description="The `ref` of a delivery.")]


@router.get("", responses=REFUSES[404])
async def search_deliveries(
    asked: Annotated[DeliverySearch, Query()], by: By, given: Given
) -> DeliveryPage:
    """Deliveries a page at a time, the newest first."""
    return await given.deliveries.search(by, asked)


FILE: dict[int | str, dict[str, Any]] = REFUSES[404] | {
    200: {"content": {form.media_type: {"schema": {"type": "string"}} for form in Format}}
}


@router.get("/export", response_class=StreamingResponse, responses=FILE)
async def export_deliveries(
    asked: Annotated[ExportAsked, Query()], by: By, given: Given
) -> StreamingResponse:
    """All that a filter means as a file, the newest first, without payloads. A file that is not
    complete says so in its last line."""
    return file_of(await given.exporting.export(by, asked, asked.format))


@router.post("/export", response_class=StreamingResponse, responses=FILE, dependencies=[ShownOnce])
async def export_payloads(export: PayloadExport, by: By, given: Given) -> StreamingResponse:
    """The same with payloads. For operators; on record with the reason."""
    found = await given.exporting.export(by, export.filter, export.format, export.why)
    return file_of(found)


def file_of(export: Export) -> StreamingResponse:
    """The response that sends the file."""
    headers = {
        "Content-Disposition": f'attachment; filename="{export.name}"',
        "Cache-Control": "no-store",
    }
    return StreamingResponse(export.parts, media_type=export.media_type, headers=headers)


@router.get("/{ref}")
async def read_delivery(ref: AnyRef, by: By, given: Given) -> DeliveryShown:
    """One delivery and all that happened to it; its row is masked."""
    return await given.deliveries.show(by, ref)


@router.post("/{ref}/reveal", dependencies=[ShownOnce])
async def reveal_payload(ref: AnyRef, reveal: Reveal, by: By, given: Given) -> Revealed:
    """The row as it is sent. For operators; on record with the reason."""
    return Revealed(payload=await given.deliveries.reveal(by, ref, reveal.why))


@router.get("/{ref}/request", responses=REFUSES[409])
async def preview_request(ref: AnyRef, by: By, given: Given) -> RequestShown:
    """The request that would be sent now, values and secrets masked. Sends nothing."""
    return await given.deliveries.request(by, ref)


@router.post("/{ref}/replay")
async def replay_delivery(ref: AnyRef, act: Replay, by: By, given: Given) -> Done:
    """Put it back to queued."""
    return await given.deliveries.act(by, ref, Action.REPLAY, act.why, again=act.again)


@router.post("/{ref}/cancel")
async def cancel_delivery(ref: AnyRef, act: Act, by: By, given: Given) -> Done:
    """Take it off its way."""
    return await given.deliveries.act(by, ref, Action.CANCEL, act.why)


@router.post("/{ref}/acknowledge")
async def acknowledge_delivery(ref: AnyRef, act: Acknowledge, by: By, given: Given) -> Done:
    """Take a dead letter for settled, or no longer."""
    action = Action.WITHDRAW if act.undo else Action.ACKNOWLEDGE
    return await given.deliveries.act(by, ref, action, act.why)
