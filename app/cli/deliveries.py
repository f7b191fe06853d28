"""`deliveries list` and `deliveries show`."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.output import AsJson, ago, console, fail, load_config, print_fields, print_json, print_table, with_ledger
from app.ledger import Ledger
from app.ledger.client import Document
from app.models import State, has_identity

deliveries = typer.Typer(no_args_is_help=True)


@deliveries.command("list")
def list_deliveries(
    feed: Annotated[str | None, typer.Option(help="Only this feed's.")] = None,
    state: Annotated[State | None, typer.Option(help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    as_json: AsJson = False,
) -> None:
    """Deliveries by id, without their payloads."""
    found = with_ledger(load_config(), lambda ledger: ledger.deliveries.listing(feed, state, limit))
    if as_json:
        print_json({"deliveries": found})
        return
    rows = [
        [
            d["_id"],
            d["state"],
            d["attempts"],
            ago(d["created_at"]),
            d.get("next_attempt_at"),
            d.get("reason") or _last(d),
        ]
        for d in found
    ]
    print_table("Deliveries", ["id", "state", "attempts", "logged", "next attempt", "last"], rows)


@deliveries.command("show")
def show_delivery(delivery_id: Annotated[str, typer.Argument(metavar="ID")], as_json: AsJson = False) -> None:
    """One delivery with its payload and every attempt on record."""

    async def ask(ledger: Ledger) -> tuple[Document | None, list[Document]]:
        return await ledger.deliveries.get(delivery_id), await ledger.attempts.of_delivery(delivery_id)

    delivery, attempts = with_ledger(load_config(), ask)
    if delivery is None:
        fail(f"delivery {delivery_id!r}: not in the ledger; ids read <feed>:<key>")
    if as_json:
        print_json({"delivery": delivery, "attempts": attempts})
        return
    print_fields(delivery)
    if delivery["state"] == State.DEAD and delivery.get("payload") == "" and has_identity(delivery["key"]):
        said = f"never read: mend the row in the source, then: python -m app replay '{delivery['_id']}'"
        console.print(said, soft_wrap=True)
    rows = [
        [
            a["at"].isoformat(timespec="milliseconds"),
            a["outcome"],
            a.get("status"),
            a.get("duration_ms"),
            a.get("error"),
        ]
        for a in attempts
    ]
    print_table("Attempts", ["at", "outcome", "status", "ms", "error"], rows)


def _last(delivery: Document) -> str | None:
    last = delivery.get("last") or {}
    return last.get("error") or last.get("status")
