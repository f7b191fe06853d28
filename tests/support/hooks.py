"""A real HTTP server that webhooks are posted to, and what it was sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web


@asynccontextmanager
async def listener(
    statuses: list[int],
) -> AsyncIterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """A server that answers with these statuses in turn, then 204. Yields its URL and what it was
    sent.
    """
    received: list[tuple[dict[str, str], bytes]] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        received.append(
            ({name.lower(): value for name, value in request.headers.items()}, await request.read())
        )
        status = statuses.pop(0) if statuses else 204
        return web.Response(
            status=status, headers={"Location": "/elsewhere"} if status == 302 else None
        )

    runner = web.ServerRunner(web.Server(answer, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook?token=s3cret-token", received
    finally:
        await runner.cleanup()
