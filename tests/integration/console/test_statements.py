"""The fixture that counts statements does count them."""

from __future__ import annotations

from app.console.security.roles import Role
from tests.support.console import Consoled
from tests.support.statements import statements


async def test_a_list_asks_the_same_number_of_statements_for_one_user_and_for_many(
    console: Consoled,
) -> None:
    admin = await console.logged_in(Role.ADMIN)
    with statements(console.services.store.engine) as of_one:
        assert (await admin.get("/api/v1/users")).status_code == 200
    for number in range(5):
        await console.user(Role.VIEWER, f"viewer-{number}")
    with statements(console.services.store.engine) as of_many:
        assert len((await admin.get("/api/v1/users")).json()["items"]) == 6
    assert len(of_many) == len(of_one) == 2
