"""The demo's books: what the source held, the ledger says and the partner saw, by key."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass

import orjson

from app.cli.tables import print_fields
from app.cli.terminal import console
from app.core.states import OPEN_STATES, State
from app.ledger import Ledger
from app.testbed.embedded.source import connect
from app.testbed.embedded.stack import Stack

FEED = "orders"


@dataclass(frozen=True, slots=True)
class Books:
    """The account at the end: what the source held, the ledger says and the partner saw."""

    rows: int
    logged: int
    delivered: int
    dead: int
    open: int
    partner_requests: int
    partner_unique: int
    partner_duplicates: int
    elapsed_s: float
    rows_per_s: float
    differences: list[str]


async def balance(stack: Stack, ledger: Ledger, elapsed_s: float) -> Books:
    """Compare the source, the ledger and the partner by key. `elapsed_s`: how long it all took."""
    logged = await ledger.deliveries.ids(FEED)
    with closing(connect(stack.database)) as source:
        in_source = {f"{FEED}:{row[0]}" for row in source.execute("SELECT id FROM orders")}
    with stack.partner() as partner:
        counts = partner.get("/_simulator/counts").json()
        seen = {orjson.loads(line)["key"] for line in partner.get("/_simulator/keys").iter_lines()}
    delivered = {delivery_id for delivery_id, state in logged.items() if state is State.DELIVERED}
    still_open = {delivery_id for delivery_id, state in logged.items() if state in OPEN_STATES}
    return Books(
        rows=len(in_source),
        logged=len(logged),
        delivered=len(delivered),
        dead=sum(state is State.DEAD for state in logged.values()),
        open=len(still_open),
        partner_requests=counts["requests"],
        partner_unique=len(seen),
        partner_duplicates=counts["duplicates"],
        elapsed_s=round(elapsed_s, 2),
        rows_per_s=round(len(delivered) / elapsed_s, 1),
        differences=[
            *_difference("in the source but not in the ledger", in_source - logged.keys()),
            *_difference("in the ledger but not in the source", logged.keys() - in_source),
            *_difference("delivered, but never seen by the partner", delivered - seen),
            *_difference("seen by the partner, but not delivered", seen - delivered),
            *_difference("still open", still_open),
        ],
    )


def print_books(books: Books) -> None:
    account = {name: value for name, value in asdict(books).items() if name != "differences"}
    print_fields(account)
    for line in books.differences:
        console.print(f"DIFFERENCE: {line}", style="red")
    if not books.differences:
        console.print(
            "The books balance: every row of the source is settled, and every delivered row was seen."
        )


def _difference(what: str, ids: set[str]) -> list[str]:
    """One line that names the first few ids; nothing for an empty set."""
    if not ids:
        return []
    shown = ", ".join(sorted(ids)[:5]) + (", …" if len(ids) > 5 else "")
    return [f"{len(ids)} {what}: {shown}"]
