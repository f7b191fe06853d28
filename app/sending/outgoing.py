"""What is sent to people, and by what. A failed sending says why, on one line without a secret, and
is tried again.
"""

from __future__ import annotations

from typing import Protocol

from app.core.shown import one_line

ERROR_LIMIT = 300
"""Characters kept of an error."""


class NotSent(Exception):
    """The other side did not take it. `str(error)` is one line that may be shown and stored."""

    def __init__(self, text: str) -> None:
        super().__init__(one_line(text, ERROR_LIMIT))


class Outgoing(Protocol):
    """Something to send. It holds no payload and no secret."""

    @property
    def id(self) -> str:
        """The same each time the same thing is sent, so that a recipient can tell duplicates."""

    @property
    def subject(self) -> str:
        """Of a mail."""

    def text(self) -> str:
        """A mail's plain text."""

    def page(self) -> tuple[str, bytes] | None:
        """What a mail has attached: a file's name, and HTML."""

    def json(self) -> bytes:
        """A webhook's body."""


class Sender(Protocol):
    """One way of sending."""

    name: str
    """The name under which the document keeps what came of it."""

    async def send(self, outgoing: Outgoing) -> None:
        """Send it. Raises `NotSent`."""
