"""AWS Signature Version 4: AWS's own examples, and what arrives at a service that checks."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, unquote

import pytest

from app.core.errors import ConfigError
from app.core.url import parse_url
from app.feeds.auth import AwsSigV4Auth
from app.partner.auth.aws_sigv4 import Signer
from app.partner.client import PartnerClient
from app.partner.exchange import Request
from app.partner.request import prepare
from tests.support.partners import delivery, feed_to, raw_partner

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"  # noqa: S105  AWS's example
AUTH = {
    "type": "aws_sigv4",
    "region": "us-east-1",
    "service": "service",
    "access_key_id": "AKIDEXAMPLE",
    "secret_access_key": SECRET,
}
UNRESERVED = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
FORM = {"content-type": "application/x-www-form-urlencoded"}


def signer(**changed: str) -> Signer:
    return Signer(AwsSigV4Auth.model_validate({**AUTH, **changed}))


def signature(authorization: str) -> str:
    return authorization.rpartition("Signature=")[2]


@pytest.mark.parametrize(
    ("method", "target", "headers", "body", "expected"),
    [
        ("GET", "/", {}, b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "/", {}, b"", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            "GET",
            f"/{UNRESERVED}",
            {},
            b"",
            "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
        ),
        (
            "GET",
            "/?Param2=value2&Param1=value1",
            {},
            b"",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "GET",
            "/?Param1=value2&Param1=value1",
            {},
            b"",
            "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694",
        ),
        (
            "GET",
            "/?ሴ=bar",
            {},
            b"",
            "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
        ),
        (
            "GET",
            "/example1/example2/../..",
            {},
            b"",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            "GET",
            "/./example",
            {},
            b"",
            "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5",
        ),
        (
            "GET",
            "//example//",
            {},
            b"",
            "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
        ),
        (
            "GET",
            "/",
            {"my-header1": " value1", "my-header2": ' "a   b   c"'},
            b"",
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
        (
            "POST",
            "/",
            FORM,
            b"Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    ],
)
def test_what_aws_signs_in_its_test_suite_has_the_same_signature(
    method: str, target: str, headers: dict[str, str], body: bytes, expected: str
) -> None:
    dated = {"x-amz-date": "20150830T123600Z", **headers}
    request = Request(method, parse_url(f"https://example.amazonaws.com{target}"), dated, body)
    assert signature(signer().authorization(request)) == expected


def test_the_example_for_s3_has_the_same_signature() -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html"""
    secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"  # noqa: S105  AWS's example
    url = parse_url("https://examplebucket.s3.amazonaws.com/test.txt")
    by = signer(service="s3", access_key_id="AKIAIOSFODNN7EXAMPLE", secret_access_key=secret)
    signed = by.signed(
        Request("GET", url, {"range": "bytes=0-9"}), datetime(2013, 5, 24, tzinfo=UTC)
    )
    assert signed.headers["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


def signed_for(service: str, target: str) -> str:
    request = Request("PUT", parse_url(f"https://b.s3.amazonaws.com{target}"), {})
    return signature(
        signer(service=service)
        .signed(request, datetime(2026, 1, 1, tzinfo=UTC))
        .headers["authorization"]
    )


def test_a_path_is_tidied_up_but_for_s3_where_dots_and_slashes_are_part_of_a_name() -> None:
    assert signed_for("service", "/a//./b") == signed_for("service", "/a/b")
    assert signed_for("s3", "/a//./b") != signed_for("s3", "/a/b")


def test_what_may_be_written_in_two_ways_is_signed_in_one() -> None:
    assert signed_for("service", "/?a=x!%7e") == signed_for("service", "/?a=x%21~")
    assert signed_for("s3", "/a!b%7e") == signed_for("s3", "/a%21b~")
    assert signed_for("service", "/?a&b") == signed_for("service", "/?b=&a=")


def test_a_retry_is_signed_anew_and_a_day_has_its_own_key() -> None:
    by, now = signer(), datetime(2026, 1, 1, 23, 59, 59, tzinfo=UTC)
    request = prepare(feed_to("https://partner.example", AUTH)).request(delivery())
    first, again = by.signed(request, now), by.signed(request, now + timedelta(seconds=1))
    assert again.headers["x-amz-date"] == "20260102T000000Z"
    assert again.headers["idempotency-key"] == first.headers["idempotency-key"]
    assert again == signer().signed(request, now + timedelta(seconds=1)), (
        "as by one that has signed nothing before"
    )
    assert signature(first.headers["authorization"]) != signature(again.headers["authorization"])


def aws_encoded(text: str) -> str:
    return quote(unquote(text), safe="~")


class Service:
    """Checks signatures as a service does: from what arrived, and nothing else."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []

    async def respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (field.partition(":") for field in fields)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.requests.append((line, headers))
        status = (
            b"200 OK"
            if self.signature(line, headers, body) == signature(headers["authorization"])
            else b"403 No"
        )
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    def signature(self, line: str, headers: dict[str, str], body: bytes) -> str:
        method, target, _ = line.split(" ")
        path, _, query = target.partition("?")
        pairs = sorted(
            (name, value)
            for name, _, value in (pair.partition("=") for pair in query.split("&") if pair)
        )
        encoded = "&".join(
            f"{quote(unquote(name), safe='~')}={quote(unquote(value), safe='~')}"
            for name, value in pairs
        )
        names = headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0]
        lines = [f"{name}:{headers[name]}" for name in names.split(";")]
        digest = hashlib.sha256(body).hexdigest()
        canonical = "\n".join([method, quote(path, safe="/~"), encoded, *lines, "", names, digest])
        moment = headers["x-amz-date"]
        scope = [moment[:8], "us-east-1", "service", "aws4_request"]
        key = b"AWS4" + SECRET.encode()
        for part in scope:
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        hashed = hashlib.sha256(canonical.encode()).hexdigest()
        text = "\n".join(["AWS4-HMAC-SHA256", moment, "/".join(scope), hashed])
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


async def test_a_service_takes_what_is_sent_and_refuses_another_key() -> None:
    service = Service()
    token = {"session_token": "AQoDYXdz/token=="}
    async with raw_partner(service.respond) as url:
        feed = feed_to(
            url,
            {**AUTH, **token},
            path="/rows/%C3%BC?b=2&a=%20x",
            headers={"X-Amz-Target": "Rows.Put"},
        )
        wrong = feed_to(url, {**AUTH, "secret_access_key": "another"})
        async with PartnerClient([feed, wrong]) as client:
            assert (await client.send(feed, delivery())).status == 200
            assert (await client.send(wrong, delivery())).status == 403
            assert (await client.head(feed)).status == 200
    headers = service.requests[0][1]
    assert headers["x-amz-security-token"] == token["session_token"]
    assert (
        headers["x-amz-content-sha256"] == hashlib.sha256(delivery().payload.encode()).hexdigest()
    )
    names = headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert {
        "host",
        "content-type",
        "idempotency-key",
        "x-amz-target",
        "x-amz-security-token",
    } <= set(names)
    assert not {"user-agent", "accept", "content-length"} & set(names), (
        "what proxies change is not signed"
    )


async def test_the_status_url_is_asked_with_a_signature() -> None:
    service = Service()
    async with raw_partner(service.respond) as url:
        feed = feed_to(url, AUTH, status_url=f"{url}/status?key={{key}}")
        async with PartnerClient([feed]) as client:
            answer = await client.send(feed, delivery(in_doubt=True))
    assert [line for line, _ in service.requests] == ["GET /status?key=1 HTTP/1.1"]
    assert answer.status == 200
    assert answer.note == "status_url: the partner has the row; nothing was sent"


@pytest.mark.parametrize(
    ("auth", "partner", "said"),
    [
        ({"access_key_id": "AK ID"}, {}, "feeds.orders.partner.auth.access_key_id"),
        ({"session_token": "s3cret\n"}, {}, "feeds.orders.partner.auth.session_token"),
        ({}, {"path": "/rows?a=x+y"}, "partner.url"),
        (
            {},
            {"status_url": "https://partner.example/status?q=a+b&key={key}"},
            "partner.status_url",
        ),
    ],
)
def test_what_could_not_be_signed_as_it_arrives_is_said_at_the_start(
    auth: dict[str, str], partner: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        prepare(feed_to("https://partner.example", {**AUTH, **auth}, **partner))
    assert "s3cret" not in str(caught.value)


def test_a_region_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="a name in small letters, digits and -"):
        feed_to("https://partner.example", {**AUTH, "region": "us-east-1/s3"})
