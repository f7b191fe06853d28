"""Passwords: argon2id through pwdlib, off the event loop, a few at a time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from pwdlib import PasswordHash
from pwdlib.exceptions import UnknownHashError
from pwdlib.hashers.argon2 import Argon2Hasher

from app.console.errors import Invalid

SHORTEST, LONGEST = 12, 200
"""In characters. NIST SP 800-63B asks for length and for nothing else; argon2 takes any."""
AT_ONCE = 2
"""Hashes that are computed at once: each takes 64 MiB and a core for some 50 ms, so a flood of
logins waits here and not in front of everybody else."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a password."""

    right: bool
    rehashed: str | None
    """The hash by today's parameters, where the stored one was made by weaker ones."""


class Passwords:
    """Hashes and verifies. On one event loop."""

    def __init__(self, hasher: Argon2Hasher | None = None) -> None:
        """`hasher`: argon2id by the library's parameters (RFC 9106, second choice) unless given."""
        self._hash = PasswordHash((hasher or Argon2Hasher(),))
        self._free = asyncio.Semaphore(AT_ONCE)
        self._decoy: str | None = None

    async def hash(self, password: str) -> str:
        """Hash a new password. Raises `Invalid` for one too short or too long."""
        if not SHORTEST <= len(password) <= LONGEST:
            raise Invalid(f"a password of {SHORTEST} to {LONGEST} characters", "password")
        async with self._free:
            return await asyncio.to_thread(self._hash.hash, password)

    async def verify(self, password: str, stored: str | None) -> Verdict:
        """Whether it is the password of that hash. `None`, of nobody, takes as long and is wrong."""
        if len(password) > LONGEST:
            return Verdict(False, None)
        async with self._free:
            return await asyncio.to_thread(self._verify, password, stored)

    def _verify(self, password: str, stored: str | None) -> Verdict:
        """One hash is computed in each case; the first call makes the decoy besides, whoever it asks
        for."""
        if self._decoy is None:
            self._decoy = self._hash.hash("nobody has this password")
        try:
            right, rehashed = self._hash.verify_and_update(password, stored or self._decoy)
        except UnknownHashError:
            return Verdict(False, None)
        right = right and stored is not None
        return Verdict(right, rehashed if right else None)
