"""Where each GET route of the console is asked over the ledger of `bench.console_ledger`; and searches
beside them, of each kind and filter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.console.deliveries.ref import ref_of
from app.core.clock import utc_now


@dataclass(frozen=True, slots=True)
class Known:
    """What addresses name."""

    day: str
    day_before: str
    """Periods of which there are reports."""
    dead: str
    """The id of a dead letter with attempts."""
    delivered: str
    """The id of an old delivery."""
    user: str
    origin: str
    operation: str
    """With a frozen set."""


STREAMS = frozenset({"/api/v1/events", "/overview/events"})
"""They have no end: `bench.console_live` watches them."""

ADDRESSES: Mapping[str, Sequence[str]] = {
    # API
    "/api/v1/openapi.json": (),
    "/api/v1/api-keys": (),
    "/api/v1/audit": ("/api/v1/audit", "/api/v1/audit?action=delivery&who=vy&subject=orders"),
    "/api/v1/audit/verify": (),
    "/api/v1/audit/export": (),
    "/api/v1/dead-letters": ("/api/v1/dead-letters", "/api/v1/dead-letters?feed=refunds"),
    "/api/v1/deliveries": ("/api/v1/deliveries", "/api/v1/deliveries?limit=200"),
    "/api/v1/deliveries/export": ("/api/v1/deliveries/export?state=dead",),
    "/api/v1/deliveries/{ref}": ("/api/v1/deliveries/{dead}", "/api/v1/deliveries/{delivered}"),
    "/api/v1/deliveries/{ref}/request": ("/api/v1/deliveries/{dead}/request",),
    "/api/v1/feedback": (),
    "/api/v1/feeds": (),
    "/api/v1/feeds/{name}": (
        "/api/v1/feeds/orders",
        "/api/v1/feeds/orders?range=day",
        "/api/v1/feeds/orders?range=week",
    ),
    "/api/v1/feeds/{name}/preview": ("/api/v1/feeds/orders/preview?key=100",),
    "/api/v1/jobs": (),
    "/api/v1/workers": (),
    "/api/v1/notifications": (),
    "/api/v1/notifications/settings": (),
    "/api/v1/operations": ("/api/v1/operations", "/api/v1/operations?feed=orders&state=frozen"),
    "/api/v1/operations/{operation_id}": ("/api/v1/operations/{operation}",),
    "/api/v1/operations/{operation_id}/deliveries": ("/api/v1/operations/{operation}/deliveries",),
    "/api/v1/origins": (),
    "/api/v1/origins/{origin_id}": ("/api/v1/origins/{origin}",),
    "/api/v1/sessions": (),
    "/api/v1/tokens": (),
    "/api/v1/users/me": (),
    "/api/v1/users": (),
    "/api/v1/users/{user_id}": ("/api/v1/users/{user}",),
    "/api/v1/certificates": (),
    "/api/v1/certificates/{feed}": ("/api/v1/certificates/orders",),
    "/api/v1/certificates/{feed}/history": ("/api/v1/certificates/orders/history",),
    "/api/v1/reports": (),
    "/api/v1/reports/compare": (
        "/api/v1/reports/compare?feed=orders&left={day_before}&right={day}",
    ),
    "/api/v1/reports/{feed}/{period}": ("/api/v1/reports/orders/{day}",),
    "/api/v1/reports/{feed}/{period}/{form}": (
        "/api/v1/reports/orders/{day}/html",
        "/api/v1/reports/orders/{day}/csv",
        "/api/v1/reports/orders/{day}/json",
    ),
    "/health/live": (),
    "/health/ready": (),
    # Pages
    "/": (),
    "/login": (),
    "/welcome/{link}": ("/welcome/not-a-link-any-more",),
    "/jobs": (),
    "/workers": (),
    "/feeds/{name}": ("/feeds/orders", "/feeds/orders?range=day", "/feeds/orders?range=week"),
    "/feeds/{name}/preview": ("/feeds/orders/preview?key=100",),
    "/feeds/{name}/rewind": ("/feeds/orders/rewind?to=beginning",),
    "/admin/audit": ("/admin/audit", "/admin/audit?action=delivery"),
    "/admin/audit/verify": (),
    "/dead-letters": ("/dead-letters", "/dead-letters?feed=orders"),
    "/deliveries": (),
    "/deliveries/{ref}": ("/deliveries/{dead}", "/deliveries/{delivered}"),
    "/admin/feedback": (),
    "/notifications": (),
    "/operations": (),
    "/operations/new": (
        "/operations/new?feed=orders&state=dead",
        "/operations/new?feed=orders&state=dead&status=422",
    ),
    "/operations/{operation_id}": ("/operations/{operation}",),
    "/admin/origins": (),
    "/admin/origins/{origin_id}": ("/admin/origins/{origin}",),
    "/reports": ("/reports", "/reports?feed=orders"),
    "/reports/compare": ("/reports/compare?feed=orders&left={day_before}&right={day}",),
    "/reports/{feed}/{period}": ("/reports/orders/{day}",),
    "/certificates/{feed}": ("/certificates/orders",),
    "/profile": (),
    "/permissions": (),
    "/admin/sessions": (),
    "/admin/tokens": (),
    "/admin/users": (),
    "/admin/users/{user_id}": ("/admin/users/{user}",),
}
"""Route → where it is asked; none: at the route itself."""

SEARCHES = (
    "q={delivered_id}",
    "q={key}",
    "q=acme:OLD-2026/00000003",
    "q=acme:INV-2026/00060",
    "q=acme",
    "q=nothing-like-that",
    "q=tax_id",
    "state=delivered",
    "state=delivered&order=oldest",
    "state=dead",
    "state=queued&state=retrying",
    "state=skipped&feed=orders",
    "feed=refunds",
    "feed=orders&feed=invoices&state=delivered",
    "status=503",
    "status=404&state=dead&feed=invoices",
    "status=none",
    "status=299",
    "attempts=3%2B",
    "attempts=50%2B&state=delivered",
    "reason=currency",
    "reason=no+such+reason&feed=orders",
    "key=INV-2026",
    "key=no-such-part&state=delivered",
    "since={an_hour}",
    "since={then}&until={until}&state=delivered",
    "since={then}&until={until}&reason=conflict&status=409",
    "feed=orders&state=dead&status=422&attempts=2-5&reason=tax_id&since={then}",
)
"""Queries of `/deliveries` and `/api/v1/deliveries`."""


def addresses(route: str, known: Known) -> list[str]:
    """Where that route is asked. Raises `KeyError` for one that is not written here."""
    return [_named(one, known) for one in ADDRESSES[route] or (route,)]


def searches(known: Known) -> list[str]:
    """The searches, as pages."""
    return [f"/deliveries?{_named(one, known)}" for one in SEARCHES]


def _named(address: str, known: Known) -> str:
    now = utc_now()
    return address.format(
        day=known.day,
        day_before=known.day_before,
        an_hour=_ago(now, timedelta(hours=1)),
        then=_ago(now, timedelta(days=20)),
        until=_ago(now, timedelta(days=19)),
        dead=ref_of(known.dead),
        delivered=ref_of(known.delivered),
        delivered_id=known.delivered,
        key=known.delivered.partition(":")[2],
        user=known.user,
        origin=known.origin,
        operation=known.operation,
    )


def _ago(now: datetime, length: timedelta) -> str:
    return f"{now - length:%Y-%m-%dT%H:%M:%SZ}"
