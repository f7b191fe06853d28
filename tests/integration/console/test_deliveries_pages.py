"""The pages of deliveries: a view can be sent to a colleague, nothing that a source or partner wrote is
more than text, and what the reader may not do is there, disabled, and says why."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator

from app.console.deliveries.ref import ref_of
from app.console.security.roles import Role
from app.core.states import State
from app.ledger.client import Document
from tests.support.console import Consoled
from tests.support.console_ledger import NOW, attempt, delivery, ledger_commands, put
from tests.support.hostile import FORMULAS, MARK, SCRIPTS
from tests.support.statements import statements

INVOICE = "orders:acme:INV-2026%2F00060"
ADDRESS = f"/deliveries/{ref_of(INVOICE)}"


async def test_a_support_colleague_finds_the_row_reads_the_answer_and_may_not_replay(
    console: Consoled,
) -> None:
    answer = '{"error": "unknown voucher", "customer": "Nguyen Van A"}'
    await put(console, delivery("acme", "INV-2026/00060"), attempt(INVOICE, response=answer))
    viewer = await console.logged_in(Role.VIEWER)
    for typed in ("INV-2026/00060", "acme:INV-2026/00060"):
        assert ADDRESS in (await viewer.get("/deliveries", params={"q": typed})).text
    page = await viewer.get(ADDRESS)
    assert "unknown voucher" in page.text
    assert "Nguyen" not in page.text
    assert re.search(
        r'takes the role operator; yours is viewer"><button disabled[^>]*>Replay', page.text
    )
    forged = await viewer.post(f"{ADDRESS}/replay", data={"why": "please"})
    assert (forged.status_code, "takes the role operator" in forged.text) == (403, True)


async def test_an_operator_replays_with_a_reason_and_keeps_what_was_typed_where_it_fails(
    console: Consoled,
) -> None:
    await put(console, delivery("acme", "INV-2026/00060"))
    operator = await console.logged_in(Role.OPERATOR)
    short = await operator.post(f"{ADDRESS}/replay", data={"why": "x"})
    assert (short.status_code, 'role="alert"' in short.text, 'value="x"' in short.text) == (
        422,
        True,
        True,
    )
    done = await operator.post(f"{ADDRESS}/replay", data={"why": "mended <there>"})
    assert (done.status_code, done.headers["location"]) == (303, ADDRESS)
    page = (await operator.get(ADDRESS)).text
    assert "mended &lt;there&gt;" in page
    assert re.search(r"<button disabled>Replay</button> <small[^>]*>it is queued", page)


async def test_a_row_is_revealed_once_and_not_kept_by_the_browser(console: Consoled) -> None:
    await put(console, delivery("acme", "INV-2026/00060"))
    operator = await console.logged_in(Role.OPERATOR)
    assert "Nguyen Van A" not in (await operator.get(ADDRESS)).text
    shown = await operator.post(f"{ADDRESS}/reveal", data={"why": "the customer called"})
    assert ("Nguyen Van A" in shown.text, shown.headers["cache-control"]) == (True, "no-store")


async def test_whatever_a_source_or_partner_writes_is_text(console: Consoled) -> None:
    texts = [*SCRIPTS, *FORMULAS]
    await put(console, *_hostile(texts))
    operator = await console.logged_in(Role.OPERATOR)
    listed = (await operator.get("/deliveries", params={"limit": 100})).text
    addresses = dict.fromkeys(re.findall(r'href="(/deliveries/[\w-]+)"', listed))
    pages = [listed, *[(await operator.get(address)).text for address in addresses]]
    assert len(pages) == len(texts) + 1
    for page in pages:
        assert "<script>document" not in page
        assert "<img" not in page
        assert "<svg onload" not in page
        assert not re.search(r'href="\s*javascript:', page)
        assert f'{MARK}</a>">' not in page


def _hostile(texts: list[str]) -> Iterator[Document]:
    """Each text wherever one can be: a delivery each, with an attempt for each field of one."""
    for number, text in enumerate(texts):
        one = delivery(text, age=number) | {
            "reason": text,
            "payload": json.dumps({"a": text, text: 1}),
            "replays": [{"at": NOW, "by": text, "why": text, "was": "dead"}],
        }
        yield one
        for made, name in enumerate(("error", "response", "note", "worker"), start=1):
            yield attempt(one["_id"], made) | {name: text}


async def test_a_moment_of_the_reader_becomes_one_that_a_colleague_elsewhere_reads_the_same(
    console: Consoled,
) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    moved = await viewer.get("/deliveries", params={"since": "2026-11-28T10:00", "q": ""})
    assert moved.status_code == 303
    assert moved.headers["location"] == "/deliveries?since=2026-11-28T10%3A00%3A00Z"
    shown = await viewer.get(moved.headers["location"])
    assert 'value="2026-11-28T10:00:00"' in shown.text


async def test_a_filter_that_cannot_be_read_is_said_and_kept(console: Consoled) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    for name, text in (
        ("status", "teapot"),
        ("attempts", "many"),
        ("state", "lost"),
        ("feed", "nobody's"),
    ):
        page = await viewer.get("/deliveries", params={name: text})
        assert (page.status_code, 'role="alert"' in page.text) == (422, True), name
        assert "pydantic" not in page.text
    assert 'value="teapot"' in (await viewer.get("/deliveries", params={"status": "teapot"})).text


async def test_empty_states_say_what_comes_next(console: Consoled) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    assert "As soon as a worker" in (await viewer.get("/deliveries")).text
    assert "Take a filter away" in (await viewer.get("/deliveries", params={"q": "nothing"})).text


async def test_a_page_asks_as_much_for_a_hundred_deliveries_as_for_one(
    console: Consoled, mongo_database_url: str
) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    await put(console, delivery("acme", "INV-2026/00060"), attempt(INVOICE))
    asked: list[tuple[int, int]] = []
    async with ledger_commands(console, mongo_database_url) as commands:
        for _ in range(2):
            for address in ("/deliveries", ADDRESS):
                commands.clear()
                with statements(console.services.store.engine) as sent:
                    assert (await viewer.get(address)).status_code == 200
                asked.append((len(commands), len(sent)))
            if len(asked) == 2:
                many = (delivery(n, state=State.DELIVERED, age=n) for n in range(100))
                await put(console, *many, *(attempt(INVOICE, n) for n in range(2, 60)))
    assert asked[2][0] <= asked[0][0] + 4  # one state more is listed
    assert asked[1] == asked[3]
    assert max(number for pair in asked for number in pair) <= 25


async def test_the_delivery_of_a_key_of_nothing_but_signs_has_a_page(console: Consoled) -> None:
    await put(console, delivery("a/b?c#d &%"), delivery(""))
    viewer = await console.logged_in(Role.VIEWER)
    listed = html.unescape((await viewer.get("/deliveries")).text)
    for address in dict.fromkeys(re.findall(r'href="(/deliveries/[\w-]+)"', listed)):
        assert (await viewer.get(address)).status_code == 200
