"""AWS Signature Version 4: each request is signed, over the time, its path, query, headers and
body.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html

The signed text is what the service makes of the request as it arrives, so of a URL that may be
written in several ways it takes the one form that the service does. Every header that the feed
sends is signed, except those that proxies add or change. The time is the ledger server's, as for
all that workers date; AWS takes a request for 5 minutes, S3 for 15.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping
from datetime import datetime
from hashlib import sha256
from urllib.parse import quote, unquote_to_bytes

from app.core.clock import utc_now
from app.core.errors import Problem
from app.feeds.auth import AwsSigV4Auth
from app.partner.auth.kind import AuthKind, Authorizer, BuildRequest, Outside
from app.partner.exchange import Request
from app.partner.headers import PRINTABLE, uncarried

_ALGORITHM = "AWS4-HMAC-SHA256"
_ENDING = "aws4_request"
_NOT_SIGNED = frozenset(
    {
        "accept",
        "accept-encoding",
        "authorization",
        "baggage",
        "connection",
        "te",
        "traceparent",
        "tracestate",
        "user-agent",
        "x-amzn-trace-id",
    }
)
"""What is between us and the service may add or change them."""
_PATH_AS_SENT = frozenset({"s3", "s3-object-lambda", "s3-outposts", "s3express"})
"""Services in whose paths `//`, `.` and `..` are part of a name, and that encode a path once;
others, twice.
"""


class Kind(AuthKind[AwsSigV4Auth]):
    """An access key, and the region and service that a signature is for."""

    sets = frozenset(
        {"authorization", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"}
    )

    def secrets(self) -> tuple[str, ...]:
        """The secret key, which is never sent, and the session token, which is."""
        token = self.auth.session_token
        return (
            self.auth.secret_access_key.get_secret_value(),
            token.get_secret_value() if token else "",
        )

    def problems(self) -> Iterator[Problem]:
        """What no header can carry, and a query that services read in two ways."""
        token = self.auth.session_token
        for name, value in (
            ("access_key_id", self.auth.access_key_id),
            ("session_token", token.get_secret_value() if token else ""),
        ):
            if uncarried(value) or " " in value:
                yield Problem(
                    "feeds",
                    name,
                    "a value with other characters",
                    f"{PRINTABLE}, here without blanks",
                )
        for name, url in (
            ("url", self.partner.url.target),
            ("status_url", self.partner.status_url or ""),
        ):
            if "+" in url.partition("?")[2]:
                allowed = f"partner.{name} with %20 for a blank, or %2B: services differ in what they take a + for"
                yield Problem(
                    "feeds", "type", f"aws_sigv4 with a + in the query of partner.{name}", allowed
                )

    def authorizer(self, outside: Outside) -> Authorizer:  # noqa: ARG002  it asks nobody
        """Signs each request anew, so a retry has a time of its own."""
        return Signer(self.auth)

    def preview(self, request: Request) -> Request:
        """As it would be signed now."""
        return Signer(self.auth).signed(request, utc_now())


class Signer(Authorizer):
    """Signs requests with one access key."""

    def __init__(self, auth: AwsSigV4Auth) -> None:
        self._auth = auth
        self._key = ("", b"")
        """The day, and the key that is derived for it."""

    async def authorize(self, build: BuildRequest) -> Request:
        """Nothing is fetched for it."""
        return self.signed(build(), utc_now())

    def signed(self, request: Request, now: datetime) -> Request:
        """The request with its hash, the time, the session token where there is one, and the
        signature.
        """
        token = self._auth.session_token
        added = {
            "x-amz-content-sha256": sha256(request.body).hexdigest(),
            "x-amz-date": f"{now:%Y%m%dT%H%M%SZ}",
        }
        if token is not None:
            added["x-amz-security-token"] = token.get_secret_value()
        request = request.having(added)
        return request.having({"authorization": self.authorization(request)})

    def authorization(self, request: Request) -> str:
        """The header's value, for a request that has its time."""
        moment = request.headers["x-amz-date"]
        scope = f"{moment[:8]}/{self._auth.region}/{self._auth.service}/{_ENDING}"
        headers = signed_headers(request)
        text = canonical_request(request, headers, as_sent=self._auth.service in _PATH_AS_SENT)
        to_sign = "\n".join([_ALGORITHM, moment, scope, sha256(text.encode()).hexdigest()])
        signature = hmac.new(self._signing_key(moment[:8]), to_sign.encode(), sha256).hexdigest()
        credential = f"Credential={self._auth.access_key_id}/{scope}"
        return (
            f"{_ALGORITHM} {credential}, SignedHeaders={';'.join(headers)}, Signature={signature}"
        )

    def _signing_key(self, day: str) -> bytes:
        if self._key[0] != day:
            key = b"AWS4" + self._auth.secret_access_key.get_secret_value().encode()
            for part in (day, self._auth.region, self._auth.service, _ENDING):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key = (day, key)
        return self._key[1]


def signed_headers(request: Request) -> Mapping[str, str]:
    """The headers that are signed, by name, each value as the service has it: blanks around it, and
    more than one in a row, count for nothing.
    """
    headers = {"host": request.url.authority, **request.headers}
    return {
        name: " ".join(headers[name].split()) for name in sorted(headers) if name not in _NOT_SIGNED
    }


def canonical_request(request: Request, headers: Mapping[str, str], *, as_sent: bool) -> str:
    """What is signed of a request. `as_sent`: the path is not tidied up, and encoded once."""
    path, _, query = request.url.target.partition("?")
    lines = [request.method, _s3_path(path) if as_sent else _path(path), _query(query)]
    lines += [f"{name}:{value}" for name, value in headers.items()]
    body = headers.get("x-amz-content-sha256") or sha256(request.body).hexdigest()
    return "\n".join([*lines, "", ";".join(headers), body])


def _path(path: str) -> str:
    """Without `.`, `..` and empty parts (RFC 3986, section 5.2.4), and encoded once more than it is
    written.
    """
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    ending = "/" if parts and path.endswith("/") else ""
    return quote(f"/{'/'.join(parts)}{ending}", safe="/~")


def _s3_path(path: str) -> str:
    return _encoded(path, safe="/~")


def _query(query: str) -> str:
    """Names and values encoded and in order, a name without a value with an empty one."""
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    return "&".join(
        f"{name}={value}" for name, value in sorted((_encoded(n), _encoded(v)) for n, _, v in pairs)
    )


def _encoded(text: str, safe: str = "~") -> str:
    """Percent-encoded in the one way that AWS does, however it was written."""
    return quote(unquote_to_bytes(text), safe=safe)
