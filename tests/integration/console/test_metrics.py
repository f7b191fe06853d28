"""The console's own metrics: by route, never by what a client wrote."""

from __future__ import annotations

import aiohttp
import pytest

from app.console.metrics import metrics_served
from app.console.security.roles import Role
from app.core.errors import ConfigError
from app.testbed.embedded.server import free_port
from tests.support.console import Consoled


def _value(console: Consoled, name: str, **labels: str) -> float | None:
    return console.services.metrics.registry.get_sample_value(name, labels)


async def test_requests_are_counted_by_route_and_status(console: Consoled) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    await viewer.get("/api/v1/users/me")
    some_id = "0" * 32
    refused = str((await viewer.get(f"/api/v1/users/{some_id}")).status_code)
    await viewer.get("/no/such/page/42")
    await viewer.get("/static/console.css")
    requests = "rowrelay_console_requests_total"
    assert _value(console, requests, method="GET", route="/api/v1/users/me", status="200") == 1
    by_id = "/api/v1/users/{user_id}"
    assert _value(console, requests, method="GET", route=by_id, status=refused) == 1
    assert _value(console, requests, method="GET", route="other", status="404") == 1
    assert _value(console, requests, method="GET", route="/static", status="200") == 1
    assert _value(console, "rowrelay_console_request_seconds_count", route=by_id) == 1
    assert some_id not in console.services.metrics.rendered()[0].decode()


async def test_logins_that_are_refused_are_counted(console: Consoled) -> None:
    nobody = await console.client()
    wrong = {"name": "nobody", "password": "none of these"}
    assert (await nobody.post("/login", data=wrong)).status_code == 401
    assert _value(console, "rowrelay_console_logins_failed_total") == 1
    assert _value(console, "rowrelay_console_pool_in_use") == 0


async def test_metrics_have_a_port_of_their_own(console: Consoled) -> None:
    assert (await (await console.client()).get("/metrics")).status_code == 404
    await console.logged_in(Role.VIEWER)
    metrics, port = console.services.metrics, free_port()
    async with metrics_served(metrics, "127.0.0.1", port):
        address = f"http://127.0.0.1:{port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(address) as answer:
            told = await answer.text()
        assert "rowrelay_console_pool_in_use 0.0" in told
        assert "rowrelay_console_sessions 1.0" in told
        with pytest.raises(ConfigError, match="CONSOLE_METRICS_PORT"):
            async with metrics_served(metrics, "127.0.0.1", port):
                raise AssertionError("two on one port")
