"""A POST that is repeated with its `Idempotency-Key` is done once, and answered the same again."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from sqlalchemy import func, select

from app.console.security.roles import Role
from app.console.store.tables import IdempotentRequest, Origin, User
from app.core.clock import utc_now
from tests.support.console import Consoled
from tests.support.console_ledger import delivery, put

ORIGINS = "/api/v1/origins"
KEY = {"Idempotency-Key": "9f1c-1"}
BODY = {"origin": "https://status.example"}


async def _count(console: Consoled, kind: type[Origin | User | IdempotentRequest]) -> int:
    async with console.services.store.reading() as work:
        return await work.scalar(select(func.count()).select_from(kind)) or 0


async def test_a_repeated_request_is_done_once_and_answered_the_same(console: Consoled) -> None:
    admin = await console.logged_in(Role.ADMIN)
    first = await admin.post(ORIGINS, json=BODY, headers=KEY)
    again = await admin.post(ORIGINS, json=BODY, headers=KEY)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    for name in ("etag", "content-type", "vary", "content-security-policy"):
        assert again.headers[name] == first.headers[name]
    assert again.headers["idempotent-replayed"] == "true"
    assert await _count(console, Origin) == 1
    unkeyed = await admin.post(ORIGINS, json=BODY)
    assert unkeyed.status_code == 409


async def test_another_request_with_the_same_key_is_refused(console: Consoled) -> None:
    admin = await console.logged_in(Role.ADMIN)
    await admin.post(ORIGINS, json=BODY, headers=KEY)
    other = await admin.post(ORIGINS, json={"origin": "https://x.example"}, headers=KEY)
    assert other.status_code == 422
    assert "Idempotency-Key" in other.json()["detail"]
    for key in ("", "x" * 256, "a\tb"):
        wrong = await admin.post(ORIGINS, json=BODY, headers={"Idempotency-Key": key})
        assert wrong.status_code == 422
    assert await _count(console, Origin) == 1


async def test_a_key_is_of_its_user_role_and_address(console: Consoled) -> None:
    admin, other = (
        await console.logged_in(Role.ADMIN),
        await console.logged_in(Role.ADMIN, "other"),
    )
    viewer = await console.logged_in(Role.VIEWER)
    await admin.post(ORIGINS, json=BODY, headers=KEY)
    assert (await viewer.post(ORIGINS, json=BODY, headers=KEY)).status_code == 403
    assert (
        await other.post(ORIGINS, json=BODY, headers=KEY)
    ).status_code == 409  # is there already
    new = {"name": "mai", "role": "viewer"}
    assert (await admin.post("/api/v1/users", json=new, headers=KEY)).status_code == 201
    nobody = await console.client()
    assert (await nobody.post(ORIGINS, json=BODY, headers=KEY)).status_code == 401


async def test_while_it_is_under_way_its_key_is_refused(console: Consoled) -> None:
    admin = await console.logged_in(Role.ADMIN)
    entered, go_on = asyncio.Event(), asyncio.Event()
    create = console.services.origins.create

    async def waits(*given: object) -> Origin:
        entered.set()
        await go_on.wait()
        return await create(*given)  # type: ignore[arg-type] # as it was called

    console.services.origins.create = waits  # type: ignore[assignment, method-assign] # the test stops it there
    first = asyncio.create_task(admin.post(ORIGINS, json=BODY, headers=KEY))
    await entered.wait()
    meanwhile = await admin.post(ORIGINS, json=BODY, headers=KEY)
    go_on.set()
    assert (await first).status_code == 201
    assert (meanwhile.status_code, "under way" in meanwhile.json()["detail"]) == (409, True)
    assert (await admin.post(ORIGINS, json=BODY, headers=KEY)).status_code == 201


async def test_a_secret_is_answered_once_and_kept_nowhere(console: Consoled) -> None:
    admin = await console.logged_in(Role.ADMIN)
    new = {"name": "mai", "role": "viewer"}
    made = await admin.post("/api/v1/users", json=new, headers=KEY)
    assert made.status_code == 201
    again = await admin.post("/api/v1/users", json=new, headers=KEY)
    assert (again.status_code, "once only" in again.json()["detail"]) == (409, True)
    link = await admin.post(f"/api/v1/users/{console.ids['admin']}/link", headers=KEY)
    key = await admin.post("/api/v1/api-keys", json={"name": "x", "role": "viewer"}, headers=KEY)
    assert (link.status_code, key.status_code) == (201, 201)
    async with console.services.store.reading() as work:
        kept = (await work.scalars(select(IdempotentRequest.body))).all()
    assert kept == [None, None, None]


async def test_after_a_refusal_or_a_fault_the_key_is_free(console: Consoled) -> None:
    admin = await console.logged_in(Role.ADMIN)
    assert (await admin.post(ORIGINS, json={"origin": "*"}, headers=KEY)).status_code == 422
    create = console.services.origins.create

    async def breaks(*_: object) -> Origin:
        raise RuntimeError("a fault")

    console.services.origins.create = breaks  # type: ignore[assignment, method-assign] # a fault of ours
    assert (await admin.post(ORIGINS, json=BODY, headers=KEY)).status_code == 500
    console.services.origins.create = create  # type: ignore[method-assign] # as it was
    assert (await admin.post(ORIGINS, json=BODY, headers=KEY)).status_code == 201


async def test_of_many_at_the_same_moment_one_is_done(console: Consoled) -> None:
    admin = await console.logged_in(Role.ADMIN)
    answers = await asyncio.gather(
        *(admin.post(ORIGINS, json=BODY, headers=KEY) for _ in range(10))
    )
    assert {one.status_code for one in answers} <= {201, 409}
    assert 201 in {one.status_code for one in answers}
    assert await _count(console, Origin) == 1


async def test_answers_are_kept_for_a_day(console: Consoled) -> None:
    admin, idempotency = await console.logged_in(Role.ADMIN), console.services.idempotency
    await admin.post(ORIGINS, json=BODY, headers=KEY)
    idempotency._now = lambda: utc_now() + timedelta(hours=23)
    assert await idempotency.prune() == 0
    idempotency._now = lambda: utc_now() + timedelta(hours=25)
    assert await idempotency.prune() == 1
    assert await _count(console, IdempotentRequest) == 0


async def test_a_request_that_is_too_long_is_refused(console: Consoled) -> None:
    admin = await console.logged_in(Role.ADMIN)
    long = await admin.post(ORIGINS, content=b" " * 1_000_001, headers=KEY)
    assert long.status_code == 413
    assert long.headers["content-type"] == "application/problem+json"


async def test_a_file_is_sent_as_it_comes_and_not_kept(console: Consoled) -> None:
    operator = await console.logged_in(Role.OPERATOR)
    await put(console, delivery(7))
    why = {"why": "the auditor asked"}
    path = "/api/v1/deliveries/export"
    first = await operator.post(path, json=why, headers=KEY)
    assert (first.status_code, b"orders:7" in first.content) == (200, True)
    assert not first.headers["content-type"].startswith("application/json")
    again = await operator.post(path, json=why, headers=KEY)
    assert (again.status_code, "not kept" in again.json()["detail"]) == (409, True)
