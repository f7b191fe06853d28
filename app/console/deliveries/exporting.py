"""A search as a file: streamed, so that its size does not matter to the console's memory, and never cut
off in silence."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson
from pydantic import Field

from app.console.audit.service import Audit
from app.console.csv_text import BOM, csv_line
from app.console.deliveries.masking import masks_personal
from app.console.deliveries.schemas import DeliveryFilter
from app.console.deliveries.shown import DeliveryLine, fields_of
from app.console.schemas import Schema, Why
from app.console.security.roles import Permission, Principal
from app.core.errors import RowrelayError
from app.ledger.client import Document
from app.reads.lookup import require_feeds
from app.reads.search import Asked, read_text, walk
from app.runtime.operator import Operator

MOST = 1_000_000
"""Deliveries in one file."""
AT_ONCE, PAYLOADS_AT_ONCE = 1000, 20
"""Deliveries that are in memory; payloads are large."""
COLUMNS = tuple(name for name in DeliveryLine.model_fields if name != "ref")
ENDED = "the export ends here, and is not complete: "


class Format(StrEnum):
    """Of an exported file."""

    CSV = "csv"
    NDJSON = "ndjson"

    @property
    def media_type(self) -> str:
        """As HTTP has it."""
        return "text/csv; charset=utf-8" if self is Format.CSV else "application/x-ndjson"


class ExportAsked(DeliveryFilter):
    """An export without payloads."""

    format: Format = Format.CSV


class PayloadExport(Schema):
    """An export with payloads."""

    filter: DeliveryFilter = DeliveryFilter()
    format: Format = Format.NDJSON
    why: Why = Field(description="Why their payloads have to leave; it goes on record.")


@dataclass(frozen=True, slots=True)
class Export:
    """A file that is being made."""

    name: str
    media_type: str
    parts: AsyncIterator[bytes]


class Exporting:
    """Exports searches."""

    def __init__(self, operator: Operator, audit: Audit) -> None:
        self._operator = operator
        self._audit = audit

    async def export(
        self, actor: Principal, asked: DeliveryFilter, form: Format, why: str | None = None
    ) -> Export:
        """The file of what the filter means, its first part read already. `why`: with payloads.

        Raises `Forbidden`, which is on record where payloads were asked for, `UnknownFeed` and the
        ledger's errors; what fails later is said at the file's end.
        """
        told = {
            "filter": asked.query(format=None),
            "format": form.value,
            "payloads": why is not None,
        }
        actor.require(Permission.EXPORT)
        if why is not None:
            await self._audit.require(
                actor, Permission.REVEAL, "deliveries.export", "deliveries", why=why, after=told
            )
        ledger, feeds = self._operator.ledger, self._operator.feeds
        await require_feeds(ledger, feeds, asked.feed)
        selection, _ = await read_text(ledger, feeds, Asked(asked.selection(), asked.q))
        size = AT_ONCE if why is None else PAYLOADS_AT_ONCE
        pages = walk(ledger, selection, size, payloads=why is not None)
        first: list[Document] = await anext(pages, [])
        await self._audit.note(actor, "deliveries.exported", "deliveries", why=why, after=told)
        lines = _Lines(form, payloads=why is not None, whole=actor.may(Permission.REVEAL))
        name = f"deliveries{'-with-payloads' if why is not None else ''}.{form.value}"
        return Export(name, form.media_type, _parts(lines, first, pages))


async def _parts(
    lines: _Lines, first: list[Document], pages: AsyncIterator[list[Document]]
) -> AsyncIterator[bytes]:
    """The file, a page of deliveries at a time."""
    number = 0
    yield lines.head()
    try:
        async with aclosing(_joined(first, pages)) as all_pages:
            async for page in all_pages:
                yield lines.of(page[: MOST - number])
                number += len(page)
                if number >= MOST:
                    yield lines.ended(f"it holds the first {MOST:,}; narrow the search")
                    return
    except RowrelayError as error:
        yield lines.ended(str(error))


async def _joined(
    first: list[Document], pages: AsyncIterator[list[Document]]
) -> AsyncGenerator[list[Document]]:
    yield first
    async for page in pages:
        yield page


class _Lines:
    """How deliveries stand in the file."""

    def __init__(self, form: Format, *, payloads: bool, whole: bool) -> None:
        """`whole`: nothing of their reasons is masked."""
        self._csv = form is Format.CSV
        self._payloads = payloads
        self._whole = whole

    def head(self) -> bytes:
        """What the file begins with."""
        columns = (*COLUMNS, "payload") if self._payloads else COLUMNS
        return (BOM + csv_line(columns)).encode() if self._csv else b""

    def of(self, documents: Iterable[Document]) -> bytes:
        """A line each."""
        return b"".join(map(self._line, documents))

    def ended(self, why: str) -> bytes:
        """The last line of a file that is not complete."""
        if self._csv:
            return csv_line([f"ERROR: {ENDED}{why}"]).encode()
        return orjson.dumps({"error": f"{ENDED}{why}"}) + b"\n"

    def _line(self, document: Document) -> bytes:
        mask = str if self._whole else masks_personal(document["key"])
        found = fields_of(document, mask)
        fields: dict[str, Any] = {name: found[name] for name in COLUMNS}
        if self._payloads:
            fields["payload"] = document.get("payload")
        if self._csv:
            return csv_line(_cells(list(fields.values()))).encode("utf-8", "replace")
        return orjson.dumps(fields) + b"\n"


def _cells(values: Sequence[Any]) -> list[object]:
    return [one.isoformat() if hasattr(one, "isoformat") else one for one in values]
