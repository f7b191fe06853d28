"""Each route × each role: what is written in `ROUTES` holds, and a route that is not written there fails."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from app.console.deliveries.ref import ref_of
from app.console.security.roles import Role
from bench.console_routes import ADDRESSES, STREAMS
from tests.support.console import PASSWORD, Consoled
from tests.support.console_ledger import delivery, put

VIEWER, OPERATOR, ADMIN = Role
ID = "0" * 32
REF = ref_of("orders:7")
PARAMETERS = {
    "user_id": ID, "key_id": ID, "origin_id": ID, "session_id": ID, "family": ID, "note_id": ID,
    "ref": REF, "name": "orders", "feed": "orders", "link": "x" * 43, "action": "replay",
    "period": "2026-08-01", "form": "html", "operation_id": "x" * 24, "verb": "pause",
}  # fmt: skip
OPERATION = {"kind": "replay", "filter": {"feed": ["orders"]}}
WHY = {"why": "because the test says so"}
V1 = {"If-Match": '"1"'}


@dataclass(frozen=True)
class Rule:
    """Who may use a route."""

    least: Role | None
    """The least role; `None`: whoever asks."""
    json: dict[str, Any] | None = None
    """A body that is valid, so that a refusal is one of the role."""
    form: dict[str, str] | None = None
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    persons_alone: bool = False
    """Whether API keys are refused, whatever their role."""
    streams: bool = False
    """Whether the answer of who may has no end, so that it is not asked for here."""


def _own(least: Role = VIEWER, **more: Any) -> Rule:
    return Rule(least, persons_alone=True, **more)


ROUTES: dict[str, Rule] = {
    # API
    "GET /api/v1/openapi.json": Rule(None),
    "GET /api/v1/api-keys": _own(ADMIN),
    "POST /api/v1/api-keys": _own(ADMIN, json={"name": "x", "role": "viewer"}),
    "DELETE /api/v1/api-keys/{key_id}": _own(ADMIN),
    "GET /api/v1/audit": Rule(VIEWER),
    "GET /api/v1/audit/verify": Rule(VIEWER),
    "GET /api/v1/audit/export": Rule(VIEWER),
    "GET /api/v1/dead-letters": Rule(VIEWER),
    "GET /api/v1/deliveries": Rule(VIEWER),
    "GET /api/v1/deliveries/export": Rule(VIEWER),
    "POST /api/v1/deliveries/export": Rule(OPERATOR, json=WHY),
    "GET /api/v1/deliveries/{ref}": Rule(VIEWER),
    "GET /api/v1/deliveries/{ref}/request": Rule(VIEWER),
    "POST /api/v1/deliveries/{ref}/reveal": Rule(OPERATOR, json=WHY),
    "POST /api/v1/deliveries/{ref}/replay": Rule(OPERATOR, json=WHY),
    "POST /api/v1/deliveries/{ref}/cancel": Rule(OPERATOR, json=WHY),
    "POST /api/v1/deliveries/{ref}/acknowledge": Rule(OPERATOR, json=WHY),
    "GET /api/v1/feedback": Rule(VIEWER),
    "POST /api/v1/feedback": Rule(
        VIEWER, json={"subject_kind": "feed", "subject_id": "orders", "text": "a note"}
    ),
    "POST /api/v1/feedback/{note_id}/resolve": Rule(VIEWER),
    "GET /api/v1/events": Rule(VIEWER, streams=True),
    "GET /api/v1/feeds": Rule(VIEWER),
    "GET /api/v1/feeds/{name}": Rule(VIEWER),
    "GET /api/v1/feeds/{name}/preview": Rule(VIEWER, query={"key": "1"}),
    "POST /api/v1/feeds/{name}/preview": Rule(OPERATOR, json={"key": "1"} | WHY),
    "POST /api/v1/feeds/{name}/pause": Rule(OPERATOR, json=WHY),
    "POST /api/v1/feeds/{name}/resume": Rule(OPERATOR, json=WHY),
    "POST /api/v1/feeds/{name}/rewind": Rule(OPERATOR, json={"to": "1"}),
    "GET /api/v1/jobs": Rule(VIEWER),
    "POST /api/v1/jobs/{name}/run": Rule(OPERATOR, json=WHY),
    "GET /api/v1/workers": Rule(VIEWER),
    "GET /api/v1/notifications": Rule(VIEWER),
    "GET /api/v1/notifications/settings": _own(),
    "PUT /api/v1/notifications/settings": _own(json={}, headers=V1),
    "POST /api/v1/notifications/settings/test": _own(),
    "GET /api/v1/operations": Rule(VIEWER),
    "POST /api/v1/operations": Rule(OPERATOR, json=OPERATION | WHY),
    "POST /api/v1/operations/preview": Rule(OPERATOR, json=OPERATION),
    "GET /api/v1/operations/{operation_id}": Rule(VIEWER),
    "GET /api/v1/operations/{operation_id}/deliveries": Rule(VIEWER),
    "POST /api/v1/operations/{operation_id}/start": Rule(OPERATOR, json=WHY, headers=V1),
    "POST /api/v1/operations/{operation_id}/resume": Rule(OPERATOR, json=WHY, headers=V1),
    "POST /api/v1/operations/{operation_id}/pause": Rule(OPERATOR, json=WHY),
    "POST /api/v1/operations/{operation_id}/abandon": Rule(OPERATOR, json=WHY),
    "GET /api/v1/origins": Rule(ADMIN),
    "POST /api/v1/origins": Rule(ADMIN, json={"origin": "https://x.example"}),
    "GET /api/v1/origins/{origin_id}": Rule(ADMIN),
    "PATCH /api/v1/origins/{origin_id}": Rule(ADMIN, json={}, headers=V1),
    "DELETE /api/v1/origins/{origin_id}": Rule(ADMIN, headers=V1),
    "GET /api/v1/sessions": _own(),
    "DELETE /api/v1/sessions/{session_id}": _own(),
    "POST /api/v1/tokens": Rule(None, json={"name": "viewer", "password": PASSWORD}),
    "POST /api/v1/tokens/refresh": Rule(None, json={"refresh_token": "x"}),
    "POST /api/v1/tokens/revoke": Rule(VIEWER),
    "GET /api/v1/tokens": _own(),
    "DELETE /api/v1/tokens/{family}": _own(),
    "GET /api/v1/users/me": Rule(VIEWER),
    "PATCH /api/v1/users/me": _own(json={}, headers=V1),
    "POST /api/v1/users/me/password": _own(json={"current": "x", "new": "y"}),
    "GET /api/v1/users": _own(ADMIN),
    "POST /api/v1/users": _own(ADMIN, json={"name": "x", "role": "viewer"}),
    "GET /api/v1/users/{user_id}": _own(ADMIN),
    "PATCH /api/v1/users/{user_id}": _own(ADMIN, json={}, headers=V1),
    "POST /api/v1/users/{user_id}/link": _own(ADMIN),
    "GET /api/v1/certificates": Rule(VIEWER),
    "GET /api/v1/certificates/{feed}": Rule(VIEWER),
    "GET /api/v1/certificates/{feed}/history": Rule(VIEWER),
    "GET /api/v1/reports": Rule(VIEWER),
    "GET /api/v1/reports/compare": Rule(
        VIEWER, query={"feed": "orders", "before": "2026-08-01", "after": "2026-08-02"}
    ),
    "GET /api/v1/reports/{feed}/{period}": Rule(VIEWER),
    "GET /api/v1/reports/{feed}/{period}/{form}": Rule(VIEWER),
    "GET /health/live": Rule(None),
    "GET /health/ready": Rule(None),
    # Pages
    "GET /login": Rule(None),
    "POST /login": Rule(None, form={"name": "viewer", "password": "wrong"}),
    "POST /logout": Rule(VIEWER),
    "GET /welcome/{link}": Rule(None),
    "POST /welcome/{link}": Rule(None, form={"password": PASSWORD, "again": PASSWORD}),
    "GET /": Rule(VIEWER),
    "GET /jobs": Rule(VIEWER),
    "POST /jobs/{name}/run": Rule(OPERATOR, form=WHY),
    "GET /workers": Rule(VIEWER),
    "GET /overview/events": Rule(VIEWER, streams=True),
    "GET /feeds/{name}": Rule(VIEWER),
    "GET /feeds/{name}/preview": Rule(VIEWER, query={"key": "1"}),
    "POST /feeds/{name}/preview": Rule(OPERATOR, form={"key": "1"} | WHY),
    "POST /feeds/{name}/pause": Rule(OPERATOR, form={"part": "both"} | WHY),
    "POST /feeds/{name}/resume": Rule(OPERATOR, form={"part": "both"} | WHY),
    "GET /feeds/{name}/rewind": Rule(OPERATOR, query={"to": "1"}),
    "POST /feeds/{name}/rewind": Rule(OPERATOR, form={"to": "1", "token": "x"} | WHY),
    "GET /admin/audit": Rule(VIEWER),
    "GET /admin/audit/verify": Rule(VIEWER),
    "GET /dead-letters": Rule(VIEWER),
    "GET /deliveries": Rule(VIEWER),
    "GET /deliveries/{ref}": Rule(VIEWER),
    "POST /deliveries/export": Rule(OPERATOR, form=WHY),
    "POST /deliveries/{ref}/reveal": Rule(OPERATOR, form=WHY),
    "POST /deliveries/{ref}/{action}": Rule(OPERATOR, form=WHY),
    "GET /admin/feedback": Rule(VIEWER),
    "POST /admin/feedback": Rule(
        VIEWER, form={"subject_kind": "feed", "subject_id": "orders", "text": "a note"}
    ),
    "POST /admin/feedback/{note_id}/resolve": Rule(VIEWER),
    "GET /notifications": _own(),
    "POST /notifications": _own(form={"version": "1"}),
    "POST /notifications/test": _own(),
    "GET /operations": Rule(VIEWER),
    "GET /operations/new": Rule(VIEWER),
    "POST /operations": Rule(
        OPERATOR, form={"kind": "replay", "filter": "feed=orders", "id": ID} | WHY
    ),
    "GET /operations/{operation_id}": Rule(VIEWER),
    "POST /operations/{operation_id}/{verb}": Rule(OPERATOR, form=WHY),
    "GET /admin/origins": Rule(ADMIN),
    "POST /admin/origins": Rule(ADMIN, form={"origin": "https://y.example"}),
    "GET /admin/origins/{origin_id}": Rule(ADMIN),
    "POST /admin/origins/{origin_id}": Rule(ADMIN, form={"version": "1"}),
    "POST /admin/origins/{origin_id}/delete": Rule(ADMIN, form={"version": "1"}),
    "GET /reports": Rule(VIEWER),
    "GET /reports/compare": Rule(VIEWER, query={"feed": "orders"}),
    "GET /reports/{feed}/{period}": Rule(VIEWER),
    "GET /certificates/{feed}": Rule(VIEWER),
    "GET /profile": _own(),
    "POST /profile": _own(form={"version": "1", "display_name": "x"}),
    "POST /profile/password": _own(form={"current": "x", "new": PASSWORD, "again": PASSWORD}),
    "POST /profile/sessions/end-others": _own(),
    "POST /profile/sessions/{session_id}/end": _own(),
    "GET /permissions": _own(),
    "GET /admin/sessions": _own(ADMIN),
    "POST /admin/sessions/{session_id}/end": _own(),
    "GET /admin/tokens": _own(ADMIN),
    "POST /admin/tokens": _own(ADMIN, form={"name": "x", "role": "viewer"}),
    "POST /admin/tokens/keys/{key_id}/revoke": _own(ADMIN),
    "POST /admin/tokens/programs/{family}/end": _own(),
    "GET /admin/users": _own(ADMIN),
    "POST /admin/users": _own(ADMIN, form={"name": "y", "role": "viewer"}),
    "GET /admin/users/{user_id}": _own(ADMIN),
    "POST /admin/users/{user_id}": _own(ADMIN, form={"version": "1", "role": "viewer"}),
    "POST /admin/users/{user_id}/state": _own(ADMIN, form={"version": "1"}),
    "POST /admin/users/{user_id}/link": _own(ADMIN),
}
LAST = ("POST /profile/sessions/end-others", "POST /profile/password", "POST /logout")
"""What ends the session that asks, or its password's tries."""


def _routes(console: Consoled) -> set[str]:
    return {
        f"{method} {route.path}"
        for route in iter_route_contexts(console.app.routes)
        for method in (route.methods or ())
        if method != "HEAD"
    }


async def test_every_route_is_in_the_table(console: Consoled) -> None:
    found = _routes(console)
    assert sorted(found - ROUTES.keys()) == [], "write here who may use them"
    assert sorted(ROUTES.keys() - found) == [], "there are none of these any more"
    pages = {route.removeprefix("GET ") for route in found if route.startswith("GET ")}
    assert pages == {*ADDRESSES, *STREAMS}, "bench.console measures every page and endpoint"


async def _as(console: Consoled, who: str) -> httpx.AsyncClient:
    if who == "nobody":
        return await console.client()
    if who != "key":
        return await console.logged_in(Role(who))
    admin = await console.logged_in(Role.ADMIN)
    made = await admin.post("/api/v1/api-keys", json={"name": "test", "role": "viewer"})
    machine = await console.client()
    machine.headers["Authorization"] = f"Bearer {made.json()['secret']}"
    return machine


@pytest.mark.parametrize("who", ["nobody", "key", *Role])
async def test_each_route_takes_the_roles_that_the_table_says(console: Consoled, who: str) -> None:
    client, wrong = await _as(console, who), []
    await console.user(Role.VIEWER)
    await put(console, delivery(7))
    for named in sorted(_routes(console) & ROUTES.keys(), key=_order):
        rule = ROUTES[named]
        method, _, path = named.partition(" ")
        expected = _expected(rule, who, path)
        if expected == "let in" and rule.streams:
            continue
        answer = await client.request(
            method,
            path.format_map(PARAMETERS),
            json=rule.json,
            data=rule.form,
            params=rule.query,
            headers=rule.headers,
        )
        if _came(answer) != expected:
            wrong.append(f"{named}: {expected}, and was {_came(answer)} ({answer.status_code})")
    assert not wrong, "\n".join(wrong)


def _order(route: str) -> tuple[int, str]:
    return LAST.index(route) + 1 if route in LAST else 0, route


def _expected(rule: Rule, who: str, path: str) -> str:
    if rule.least is None:
        return "let in"
    if who == "nobody":
        return "unknown" if path.startswith("/api/") else "to the login"
    if who == "key" and not path.startswith("/api/"):
        return "to the login"
    if who == "key":
        return "let in" if rule.least is VIEWER and not rule.persons_alone else "refused"
    return "let in" if Role(who).includes(rule.least) else "refused"


def _came(answer: httpx.Response) -> str:
    if answer.headers.get("location", "").startswith("/login?next="):
        return "to the login"
    if answer.status_code == 401 and "www-authenticate" in answer.headers:
        wrong_password = "password" in answer.text or "refresh token is" in answer.text
        return "let in" if wrong_password and "session" not in answer.text else "unknown"
    if answer.status_code == 500:  # 503: there is no source here
        return "a fault"
    return "refused" if answer.status_code == 403 else "let in"
