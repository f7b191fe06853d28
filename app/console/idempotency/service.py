"""A POST that is repeated with the same `Idempotency-Key` is done once, and answered the same again."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import timedelta

import orjson

from app.console.errors import Conflict, Invalid
from app.console.idempotency.repository import IdempotencyRepository
from app.console.security.roles import Principal
from app.console.store.changes import PRUNED_AT_ONCE
from app.console.store.store import Store
from app.console.store.tables import IdempotentRequest
from app.core.clock import Clock, utc_now

KEPT_FOR = timedelta(days=1)
LONGEST_KEY = 255


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, by what is kept of it."""

    key_hash: str
    request_hash: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What it was answered."""

    status: int
    headers: dict[str, str]
    body: str | None
    """`None`: not to be kept, for it shows a secret or is too long."""


class Idempotency:
    """Keeps answers for a day."""

    def __init__(self, store: Store, secret: str, now: Clock = utc_now) -> None:
        """`secret`: what is kept of a request is keyed with it, so that a password in one cannot be
        guessed from it."""
        self._store = store
        self._secret = secret.encode()
        self._now = now

    def asked(self, by: Principal, key: str, path: str, request: bytes) -> Asked:
        """`request`: all that makes it the same request. A key is its user's, and of one address; with
        another role it is another key. Raises `Invalid` for what is no key."""
        if not (0 < len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
            said = f"Idempotency-Key: takes 1 to {LONGEST_KEY} printable ASCII characters"
            raise Invalid(said, "header.idempotency-key")
        of_key = orjson.dumps([by.user_id, by.role.value, path, key])
        return Asked(self._hash(of_key), self._hash(request))

    async def begin(self, asked: Asked) -> Answer | None:
        """`None` where it is new: it is under way from now on. Else what it was answered.

        Raises `Invalid` for another request with that key; `Conflict` while it is under way, and
        where its answer was not kept.
        """
        try:
            async with self._store.writing() as work:
                IdempotencyRepository(work).add(
                    IdempotentRequest(
                        key_hash=asked.key_hash,
                        request_hash=asked.request_hash,
                        created_at=self._now(),
                    )
                )
        except Conflict:
            return await self._answer_of(asked)
        return None

    async def end(self, asked: Asked, answer: Answer) -> None:
        """It was answered: a success is kept; after a refusal the key can be used anew."""
        async with self._store.writing() as work:
            requests = IdempotencyRepository(work)
            if 200 <= answer.status < 300:
                headers = orjson.dumps(answer.headers).decode()
                await requests.answered(asked.key_hash, answer.status, headers, answer.body)
            else:
                await requests.forget(asked.key_hash)

    async def prune(self) -> int:
        """Delete those of before yesterday, a bounded number at once; returns how many."""
        async with self._store.writing() as work:
            return await IdempotencyRepository(work).prune(self._now() - KEPT_FOR, PRUNED_AT_ONCE)

    async def _answer_of(self, asked: Asked) -> Answer:
        async with self._store.reading() as work:
            found = await IdempotencyRepository(work).get(asked.key_hash)
        if found is not None and found.request_hash != asked.request_hash:
            said = "Idempotency-Key: was sent with another request; take a new key for this one"
            raise Invalid(said, "header.idempotency-key")
        if found is None or found.status is None:
            raise Conflict(
                "the request with this Idempotency-Key is under way, or was cut off: look what came of it"
                " before you take another key"
            )
        if found.body is None:
            raise Conflict(
                "the request with this Idempotency-Key was done; its answer is not kept, for it is shown"
                " once only, or is a file"
            )
        return Answer(found.status, orjson.loads(found.headers or "{}"), found.body)

    def _hash(self, text: bytes) -> str:
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()
