"""Authentication: what is sent, what must be hidden, and what HTTP cannot carry."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest
from pydantic import SecretStr

from app import VERSION
from app.core.errors import ConfigError
from app.feeds.auth import ApiKeyAuth, Auth, AuthSchema, BasicAuth, BearerAuth, NoAuth, auth_schemas
from app.feeds.cursors.identity import IdentityCursor
from app.feeds.feed import Feed, Partner
from app.partner.auth.kind import AuthKind, kind_of
from app.partner.exchange import DEFAULT_HEADERS
from app.partner.request import Prepared, prepare

BEARER = BearerAuth(type="bearer", token=SecretStr("t0ken"))


def feed_with(
    auth: Auth | None = None,
    url: str = "https://partner.example/rows",
    headers: Mapping[str, str] | None = None,
) -> Feed:
    partner = Partner.model_validate(
        {"url": url, "auth": auth or NoAuth(), "headers": headers or {}}
    )
    cursor = IdentityCursor(column="id")
    return Feed(name="orders", table="orders", key=("id",), cursor=cursor, partner=partner)


def secrets_of(auth: Auth) -> tuple[str, ...]:
    return kind_of(feed_with(auth).partner).secrets()


def headers_of(prepared: Prepared) -> dict[str, str]:
    return {name.lower(): value for name, value in prepared.headers.items()}


@pytest.mark.parametrize("schema", auth_schemas(), ids=lambda schema: schema.__name__)
def test_each_way_to_authenticate_is_the_file_that_its_type_names(schema: type[AuthSchema]) -> None:
    (name,) = get_args(schema.model_fields["type"].annotation)
    kind = import_module(f"app.partner.auth.{name}").Kind
    assert issubclass(kind, AuthKind)
    assert get_args(kind.__orig_bases__[0]) == (schema,)


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        (NoAuth(), {}),
        (BEARER, {"Authorization": "Bearer t0ken"}),
        (ApiKeyAuth(type="api_key", key=SecretStr("k3y")), {"X-API-Key": "k3y"}),
        (ApiKeyAuth(type="api_key", header="Ocp-Key", key=SecretStr("k3y")), {"Ocp-Key": "k3y"}),
        (
            BasicAuth(type="basic", username="Aladdin", password=SecretStr("open sesame")),
            {"Authorization": "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="},  # RFC 7617, section 2
        ),
        (
            BasicAuth(type="basic", username="test", password=SecretStr("123£")),
            {"Authorization": "Basic dGVzdDoxMjPCow=="},  # RFC 7617, section 2.1
        ),
    ],
)
def test_each_way_to_authenticate_has_its_header(auth: Auth, expected: dict[str, str]) -> None:
    assert kind_of(feed_with(auth).partner).headers() == expected


def test_the_secrets_of_each_way_are_known_in_every_form_sent() -> None:
    basic = BasicAuth(type="basic", username="Aladdin", password=SecretStr("open sesame"))
    assert secrets_of(NoAuth()) == ()
    assert secrets_of(BEARER) == ("t0ken",)
    assert secrets_of(basic) == ("open sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ==")


def test_credentials_in_the_url_become_a_header_and_leave_the_url() -> None:
    prepared = prepare(feed_with(url="https://Aladdin:open%20sesame@partner.example/rows?v=1"))
    assert str(prepared.url) == "https://partner.example/rows?v=1"
    assert headers_of(prepared)["authorization"] == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    assert prepared.redact("it was open sesame") == "it was [secret]"


def test_configured_authentication_wins_over_the_url_and_over_static_headers() -> None:
    feed = feed_with(
        BEARER,
        url="https://user:word@partner.example/rows",
        headers={"authorization": "Bearer static"},
    )
    assert headers_of(prepare(feed))["authorization"] == "Bearer t0ken"


def test_a_feed_may_replace_our_defaults() -> None:
    feed = feed_with(headers={"content-type": "application/vnd.rows+json", "user-agent": "them/2"})
    assert headers_of(prepare(feed)) == {
        "content-type": "application/vnd.rows+json",
        "user-agent": "them/2",
    }


@pytest.mark.parametrize(
    "feed",
    [
        feed_with(BearerAuth(type="bearer", token=SecretStr("s3cret\n"))),
        feed_with(BearerAuth(type="bearer", token=SecretStr("s3cret\u2603"))),
        feed_with(ApiKeyAuth(type="api_key", header="X Key", key=SecretStr("s3cret"))),
        feed_with(ApiKeyAuth(type="api_key", header="Idempotency-Key", key=SecretStr("s3cret"))),
        feed_with(headers={"X-One": "s3cret\r\nX-Two: injected"}),
        feed_with(headers={"Content-Length": "3"}),
        feed_with(headers={"idempotency-key": "mine"}),
        feed_with(headers={"": "empty"}),
    ],
)
def test_a_header_that_cannot_be_sent_is_named_and_its_value_is_not_shown(feed: Feed) -> None:
    with pytest.raises(ConfigError) as caught:
        prepare(feed)
    assert "feeds.orders.partner." in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_what_is_kept_for_a_feed_shows_no_secret() -> None:
    prepared = prepare(
        feed_with(
            BEARER, url="https://user:word@partner.example/", headers={"X-Api-Token": "st4tic"}
        )
    )
    assert not any(secret in repr(prepared) for secret in ("t0ken", "word", "st4tic"))
    assert prepared.redact("t0ken, word, st4tic") == "[secret], [secret], [secret]"


def test_the_version_sent_is_the_project_s() -> None:
    project = tomllib.loads(
        (Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8")
    )
    assert "version" in project["project"]["dynamic"]
    assert "version" not in project["project"]
    module, _, name = project["tool"]["setuptools"]["dynamic"]["version"]["attr"].rpartition(".")
    assert getattr(import_module(module), name) == VERSION
    assert DEFAULT_HEADERS["user-agent"] == f"rowrelay/{VERSION}"
