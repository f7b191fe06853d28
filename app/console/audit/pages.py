"""`/admin/audit`: the audit log with its filters in the address, and its verifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.console.audit.difference import difference
from app.console.audit.service import Asked
from app.console.audit.verification import Verified
from app.console.dependencies import Given
from app.console.errors import Invalid
from app.console.pages import ReadBy, Reader, render
from app.console.schemas import PAGE, cursor_of, read_number_cursor
from app.console.services import Services
from app.console.store.tables import AuditEntry
from app.core.shown import one_line

router = APIRouter(prefix="/admin/audit", include_in_schema=False)

FILTERS = ("who", "action", "subject", "since", "until")
LONGEST_FILTER = 600


@dataclass(frozen=True, slots=True)
class Found:
    """What the page shows."""

    entries: list[AuditEntry]
    next_url: str | None
    problem: str | None = None


@router.get("")
async def audit_page(request: Request, who: ReadBy, given: Given) -> Response:
    """The entries that the filters in the address ask for, the latest first."""
    return await _page(request, who, given, None)


@router.get("/verify")
async def verify(request: Request, who: ReadBy, given: Given) -> Response:
    """The same, and what verifying the whole chain says."""
    return await _page(request, who, given, await given.audit.verified(who.by))


async def _page(
    request: Request, who: ReadBy, given: Services, verified: Verified | None
) -> Response:
    typed = {
        name: one_line(request.query_params.get(name, ""), LONGEST_FILTER).strip()
        for name in FILTERS
    }
    found = await _found(who, given, typed, request.query_params.get("after"))
    wrong = verified.wrong if verified else None
    told = {
        "typed": typed,
        "asks": any(typed.values()),
        "found": found,
        "difference": difference,
        "verified": verified,
        "wrong_url": f"/admin/audit?{urlencode({'after': cursor_of(wrong + 1)})}#entry-{wrong}"
        if wrong is not None
        else None,
    }
    status = 422 if found.problem else 200
    return render(request, who, "audit/list.html", told, status)


async def _found(
    who: Reader, given: Services, typed: Mapping[str, str], after: str | None
) -> Found:
    by = who.by
    try:
        asked = _asked(typed, ZoneInfo(by.time_zone))
        before = read_number_cursor(after)
    except Invalid as error:
        return Found([], None, str(error))
    entries, following = await given.audit.list(by, asked, before, PAGE)
    if following is None:
        return Found([*entries], None)
    kept = {name: text for name, text in typed.items() if text}
    return Found([*entries], f"/admin/audit?{urlencode(kept | {'after': cursor_of(following)})}")


def _asked(typed: Mapping[str, str], zone: ZoneInfo) -> Asked:
    """Raises `Invalid`."""
    return Asked(
        typed["who"] or None,
        typed["action"] or None,
        typed["subject"] or None,
        _moment(typed["since"], zone, "since"),
        _moment(typed["until"], zone, "until"),
    )


def _moment(text: str, zone: ZoneInfo, field: str) -> datetime | None:
    """A moment as a form sends it, in the reader's time zone. Raises `Invalid`."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
        at = at if at.tzinfo else at.replace(tzinfo=zone)
        at.astimezone(ZoneInfo("UTC"))
    except (ValueError, OverflowError) as error:
        raise Invalid(
            f"{field}: {text}, which is no date and time: 2026-05-31T14:30, for one", field
        ) from error
    return at
