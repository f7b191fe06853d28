"""A feed's way to its partner, and one attempt: the row's request, and any others that it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from app.core.attempts import RESPONSE_LIMIT, Ruling
from app.core.deliveries import Delivery
from app.partner.auth.kind import Authorizer, BuildRequest
from app.partner.exchange import SENT_AGAIN, Reply, Request, exchange
from app.partner.failures import Stale, Undone
from app.partner.request import Prepared
from app.partner.success import SUCCESS_LIMIT
from app.partner.transport import Transport


@dataclass(frozen=True, slots=True)
class Route:
    """A feed's way to its partner."""

    prepared: Prepared
    transport: Transport
    authorizer: Authorizer | None
    """Authorizes each request; `None`: constant headers do."""
    plain: bool
    """An attempt is a single request, and its status says it all: the path that must be fast."""

    @property
    def redact(self) -> Callable[..., str]:
        """See `Prepared.redact`; secrets that were fetched are replaced too."""
        redact = self.prepared.redact
        return partial(redact, also=self.authorizer.known) if self.authorizer else redact

    async def attempt(self, delivery: Delivery) -> Reply:
        """Send the row, unless it turns out that the partner has it. Raises `Undone`."""
        prepared = self.prepared
        if delivery.in_doubt and prepared.status_url:
            known = await self._ask(delivery)
            if known is not None:
                return known
        build = partial(prepared.request, delivery)
        try:
            return await self._authorized(build)
        except Stale:
            # Only where there is a status URL; else it was sent again by `exchange`.
            known = await self._ask(delivery)
            if known is not None:
                return known
        try:
            reply = await self._authorized(build)
        except Undone as failure:
            ruling = (
                Ruling.LOST if failure.ruling in (Ruling.FAILED, Ruling.OURS) else failure.ruling
            )
            raise Undone(str(failure), ruling, failure.status) from failure
        reply.note = SENT_AGAIN
        return reply

    async def head(self, transport: Transport) -> Reply:
        """Ask the partner's URL with HEAD, over that transport. Raises `Undone`."""
        build = self.prepared.head_request
        request = await self.authorizer.authorize(build) if self.authorizer else build()
        return await exchange(transport, request, self.prepared.deadline_seconds)

    async def _ask(self, delivery: Delivery) -> Reply | None:
        """The partner's word that it has the row, or `None` where it says that it has not, or
        cannot be asked for this row alone: then it goes again, under the same key. Raises `Undone`
        for all else.
        """
        if not self.prepared.can_ask(delivery):
            return None
        try:
            reply = await self._authorized(partial(self.prepared.status_request, delivery))
        except Undone as failure:
            ruling = (
                failure.ruling if failure.ruling in (Ruling.DENIED, Ruling.OURS) else Ruling.LOST
            )
            raise Undone(f"status_url: {failure}", ruling, wait=failure.wait) from failure
        if reply.status == 404:
            return None
        if reply.status == 200:
            reply.note, reply.settled = (
                "status_url: the partner has the row; nothing was sent",
                True,
            )
            return reply
        raise Undone(
            f"status_url: answered {reply.status}, neither 200 nor 404; nothing was sent",
            Ruling.LOST,
        )

    async def _authorized(self, build: BuildRequest) -> Reply:
        """Send a request, authorized; after a 401 or 403 once more, where that is worth trying."""
        authorizer = self.authorizer
        if authorizer is None:
            return await self._exchange(build())
        request = await authorizer.authorize(build)
        reply = await self._exchange(request)
        note = authorizer.refused(request, reply.status) if reply.status in (401, 403) else None
        if note is None:
            return reply
        reply = await self._exchange(await authorizer.authorize(build))
        reply.note = note
        return reply

    async def _exchange(self, request: Request) -> Reply:
        limit = SUCCESS_LIMIT if self.prepared.success else RESPONSE_LIMIT
        return await exchange(self.transport, request, self.prepared.deadline_seconds, limit)
