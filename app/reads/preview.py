"""The request that would be sent for a row, its secrets masked. Nothing is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.partner.auth.kind import FETCHED_WHEN_SENDING
from app.partner.failures import Undone
from app.partner.headers import SECRET_NAME
from app.partner.masking import MASK
from app.partner.request import Prepared
from app.reads.subject import Subject

_NOT_SECRET = frozenset({"idempotency-key"})


@dataclass(frozen=True, slots=True)
class RequestPreview:
    """A request, or why there is none."""

    unsent: str | None = None
    """Why the row would not be sent; then all else is empty."""
    method: str = ""
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""

    @property
    def sent(self) -> bool:
        """Whether the row would be sent."""
        return self.unsent is None


def preview_request(prepared: Prepared, subject: Subject) -> RequestPreview:
    """The request that a worker would send for the row. Asks nobody: an access token is not fetched
    for it.
    """
    if reason := subject.unsent or subject.error:
        return RequestPreview(reason)
    try:
        request = prepared.auth.preview(prepared.request(subject.delivery))
    except Undone as error:
        return RequestPreview(prepared.redact(str(error)))
    return RequestPreview(
        method=request.method,
        url=prepared.redact(str(request.url)),
        headers={
            name: _masked(prepared, name, value) for name, value in request.all_headers().items()
        },
        body=prepared.redact(request.body.decode()),
    )


def _masked(prepared: Prepared, name: str, value: str) -> str:
    """A header's value; all of it is masked where its name says that it holds a secret."""
    if value.endswith(FETCHED_WHEN_SENDING):
        return value
    secret = SECRET_NAME.search(name) and name not in _NOT_SECRET
    return MASK if secret else prepared.redact(value)
