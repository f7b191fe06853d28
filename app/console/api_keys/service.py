"""API keys: how machines come in, with a role and an expiry of their own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from app.console.api_keys.repository import ApiKeyRepository
from app.console.api_keys.schemas import NewApiKey
from app.console.audit.service import Audit
from app.console.errors import Forbidden, Invalid, NotFound
from app.console.schemas import MomentPlace, cut
from app.console.security.opaque import hash_of, new_key, shown_of
from app.console.security.roles import Permission, Principal
from app.console.store.changes import PRUNED_AT_ONCE
from app.console.store.store import Store
from app.console.store.tables import ApiKey
from app.console.users.repository import UserRepository
from app.core.clock import Clock, utc_now

SHOWN_AFTERWARDS = timedelta(days=90)
"""How long a key that was revoked or has expired is still listed."""


class ApiKeys:
    """Makes, lists and revokes keys."""

    def __init__(self, store: Store, audit: Audit, now: Clock = utc_now) -> None:
        self._store = store
        self._audit = audit
        self._now = now

    async def create(self, actor: Principal, new: NewApiKey) -> tuple[ApiKey, str]:
        """Make a key that acts in the name of who makes it; returns it, and the secret, which nobody
        can see again. Raises `Forbidden`, also for a role above one's own; `Invalid` for an expiry
        that is past."""
        actor.require(Permission.MANAGE_TOKENS)
        if not actor.role.includes(new.role):
            raise Forbidden(f"a key of the role {new.role} takes that role; yours is {actor.role}")
        now, secret = self._now(), new_key()
        if new.expires_at is not None and new.expires_at <= now:
            raise Invalid("a moment that is to come", "body.expires_at")
        async with self._store.writing() as work:
            owner = await UserRepository(work).active(actor.user_id)
            if owner is None:
                raise Forbidden("a key has an owner who may log in: make it from the console")
            key = ApiKey(
                name=new.name,
                prefix=shown_of(secret),
                key_hash=hash_of(secret),
                role=new.role.value,
                owner=owner,
                created_at=now,
                expires_at=new.expires_at,
            )
            ApiKeyRepository(work).add(key)
            await work.flush()
            await self._audit.record(work, actor, "api_key.created", key.name, after=_told(key))
        return key, secret

    async def list(
        self, actor: Principal, before: MomentPlace | None, limit: int
    ) -> tuple[Sequence[ApiKey], MomentPlace | None]:
        """Keys with their owners, the newest first, and where the next page begins. Raises
        `Forbidden`."""
        actor.require(Permission.MANAGE_TOKENS)
        async with self._store.reading() as work:
            found = await ApiKeyRepository(work).page(before, limit + 1)
        return cut(found, limit, lambda last: (last.created_at, last.id))

    async def revoke(self, actor: Principal, key_id: str) -> None:
        """Refuse a key from now on. Raises `Forbidden`; `NotFound`, also for one that was revoked."""
        actor.require(Permission.MANAGE_TOKENS)
        async with self._store.writing() as work:
            keys = ApiKeyRepository(work)
            found = await keys.get(key_id)
            if found is None or not await keys.revoke(key_id, self._now()):
                raise NotFound("there is no such key, or it was revoked before")
            await self._audit.record(
                work, actor, "api_key.revoked", found.name, before=_told(found)
            )

    async def prune(self) -> int:
        """Delete keys that ended long ago, a bounded number at once; returns how many."""
        async with self._store.writing() as work:
            past = self._now() - SHOWN_AFTERWARDS
            return await ApiKeyRepository(work).prune(past, PRUNED_AT_ONCE)


def _told(key: ApiKey) -> dict[str, object]:
    """What the audit log says of a key."""
    return {
        "prefix": key.prefix,
        "role": key.role,
        "owner": key.owner.name,
        "expires_at": key.expires_at,
    }
