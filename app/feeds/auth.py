"""`partner.auth` in `feeds.toml`: one schema a way to authenticate. What each does is in the file
of `app/partner/auth` that its `type` names.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, SecretStr

from app.core.url import HttpUrl, Url
from app.feeds.schema import Frozen


class AuthSchema(Frozen):
    """What every way to authenticate has: a `type`, and perhaps URLs of its own."""

    type: str

    def urls(self) -> tuple[Url, ...]:
        """The URLs that it asks: their queries may hold secrets."""
        return tuple(
            value
            for name in type(self).model_fields
            if isinstance(value := getattr(self, name), Url)
        )


class NoAuth(AuthSchema):
    """None, or the user and password that `partner.url` holds."""

    type: Literal["none"] = "none"


class BearerAuth(AuthSchema):
    """A token that never changes (RFC 6750)."""

    type: Literal["bearer"]
    token: SecretStr = Field(min_length=1)


class ApiKeyAuth(AuthSchema):
    """A key in a header of its own."""

    type: Literal["api_key"]
    header: str = Field(default="X-API-Key", min_length=1)
    key: SecretStr = Field(min_length=1)


class BasicAuth(AuthSchema):
    """A user and a password (RFC 7617)."""

    type: Literal["basic"]
    username: str = Field(min_length=1, repr=False)
    password: SecretStr


class OAuth2Auth(AuthSchema):
    """OAuth2 client credentials (RFC 6749, section 4.4)."""

    type: Literal["oauth2"]
    token_url: HttpUrl
    client_id: str = Field(min_length=1, repr=False)
    client_secret: SecretStr = Field(min_length=1)
    scope: str | None = Field(default=None, repr=False)
    """Several are separated by spaces."""
    audience: str | None = Field(default=None, repr=False)
    """For token endpoints that want one."""
    client_auth: Literal["basic", "body"] = "basic"
    """How the client id and secret go to the token endpoint."""


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]{1,64}", text):
        raise ValueError(
            'a name in small letters, digits and -, such as "eu-west-1" or "execute-api"'
        )
    return text


class AwsSigV4Auth(AuthSchema):
    """AWS Signature Version 4."""

    type: Literal["aws_sigv4"]
    region: Annotated[str, AfterValidator(_name)]
    service: Annotated[str, AfterValidator(_name)]
    """The name that the service signs with: `execute-api`, `lambda`, `s3`, `sqs`, `events`, …"""
    access_key_id: str = Field(min_length=1, repr=False)
    secret_access_key: SecretStr = Field(min_length=1)
    session_token: SecretStr | None = Field(default=None, min_length=1)
    """Of temporary credentials, which whoever hands them out has to renew."""


Auth = Annotated[
    NoAuth | BearerAuth | ApiKeyAuth | BasicAuth | OAuth2Auth | AwsSigV4Auth,
    Field(discriminator="type"),
]


def auth_schemas() -> tuple[type[AuthSchema], ...]:
    """Every way to authenticate."""
    return get_args(get_args(Auth)[0])


def url_fields() -> frozenset[str]:
    """The names of the fields, of whichever way to authenticate, that hold a URL."""
    fields = (item for schema in auth_schemas() for item in schema.model_fields.items())
    return frozenset(name for name, field in fields if field.annotation is Url)
