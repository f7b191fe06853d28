"""How a feed meets its partner: TLS, signatures, and what counts as success (`auth.py`: its
credentials).

The parts of `partner` in `feeds.toml`, each typed and bounded; `feed.py` puts them together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, SecretStr, model_validator

from app.core.url import parse_url
from app.feeds.schema import Frozen


class Tls(Frozen):
    """Certificates as files in PEM form, read when a process starts."""

    ca_file: Path | None = None
    """The authorities trusted, in place of the system's."""
    cert_file: Path | None = None
    """Our client certificate (mTLS), with its chain."""
    key_file: Path | None = None
    """Its private key; not needed where `cert_file` holds it too."""
    key_password: SecretStr | None = None

    @model_validator(mode="after")
    def _a_key_has_a_certificate(self) -> Tls:
        if self.cert_file is None and (self.key_file or self.key_password):
            raise ValueError("key_file and key_password go with cert_file")
        return self


class Signing(Frozen):
    """Signatures by Standard Webhooks (https://www.standardwebhooks.com)."""

    secrets: tuple[SecretStr, ...] = Field(min_length=1, max_length=2)
    """Base64, with or without `whsec_`. Two while one replaces the other: each request then has
    both signatures.
    """


Scalar: TypeAlias = bool | int | float | str


class JsonCheck(Frozen):
    """What a JSON answer must hold."""

    path: str = Field(min_length=1)
    """Names, and places in lists (from 0), joined by dots: `result.items.0.ok`."""
    equals: Scalar


class Success(Frozen):
    """What an answer must be to count as a success, besides 2xx."""

    status: tuple[Annotated[int, Field(ge=200, le=299)], ...] | None = Field(
        default=None, min_length=1
    )
    check: JsonCheck | None = Field(default=None, alias="json")
    otherwise: Literal["retry", "dead"] = "retry"
    """What becomes of a delivery whose 2xx is none of these."""


def checked_status_url(value: str) -> str:
    """The URL, if it can be asked. Raises `ValueError` that says what it must hold."""
    url = parse_url(value)
    if url.username is not None:
        raise ValueError("an http or https URL without a user")
    if "{key}" not in url.target and "{id}" not in url.target:
        raise ValueError("a URL with {key} (the row's key) or {id} (the Idempotency-Key) in it")
    return value
