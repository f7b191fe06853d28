"""Origins: whose pages may call the API from a browser."""

from __future__ import annotations

from app.console.audit.service import Audit
from app.console.origins.repository import OriginRepository
from app.console.store.store import Store
from app.core.clock import Clock, utc_now


class Origins:
    """Answers for every request, and is managed by admins."""

    def __init__(self, store: Store, audit: Audit, now: Clock = utc_now) -> None:
        self._store = store
        self._audit = audit
        self._now = now

    async def is_known(self, origin: str) -> bool:
        """Whether pages of that origin may call the API."""
        if len(origin) > 300:
            return False
        async with self._store.reading() as session:
            return await OriginRepository(session).is_enabled(origin)
