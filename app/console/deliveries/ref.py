"""A delivery in an address: its id in the ledger as URL-safe text, since an id may hold anything."""

from __future__ import annotations

import re
from base64 import b64decode, urlsafe_b64encode
from typing import Annotated

from pydantic import AfterValidator, Field

from app.console.errors import NotFound

LONGEST_REF = 6000
"""Characters. An id is a feed's name and a key of at most 1,024 characters; a change's has two such
parts."""
_FORM = re.compile(r"[A-Za-z0-9_-]+")


def ref_of(delivery_id: str) -> str:
    """The `ref` of a delivery's stored id (`_id`): urlsafe base64 of its UTF-8, without padding."""
    return urlsafe_b64encode(delivery_id.encode()).decode().rstrip("=")


def read_ref(ref: str) -> str:
    """The id of that `ref`. Raises `NotFound` for a text that is none: no delivery has it."""
    try:
        return _id_of(ref)
    except ValueError as error:
        raise NotFound("no delivery has that ref: search for its key") from error


def _id_of(ref: str) -> str:
    if len(ref) > LONGEST_REF or not _FORM.fullmatch(ref):
        raise ValueError("the ref of a delivery")
    found = b64decode(ref + "=" * (-len(ref) % 4), altchars=b"-_", validate=True).decode()
    if ref_of(found) != ref:
        raise ValueError("the ref of a delivery")
    return found


def _checked(ref: str) -> str:
    _id_of(ref)
    return ref


Ref = Annotated[
    str,
    Field(min_length=2, max_length=LONGEST_REF, pattern=r"^[A-Za-z0-9_-]+$"),
    AfterValidator(_checked),
]
"""A `ref` in a request."""
