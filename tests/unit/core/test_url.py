"""A URL is sent as it was written, or refused with what to write in its place."""

from __future__ import annotations

import pytest

from app.core.url import Url, parse_url


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/hook/a%3Ab?sp=%2Ftriggers%2Frun&sig=ab%2Bcd%2Fef%3D&t=%28x%29",
        "/a/../b/./c//d?q=/../x",
        "/rows?",
        "/rows?b=1&a=2&&c",
        "/{id}/a|b^c?d='e\"",
        "/%7Euser/%zz",
    ],
)
def test_path_and_query_stay_as_they_are(target: str) -> None:
    url = parse_url(f"https://partner.example{target}")
    assert url.target == target
    assert str(url) == f"https://partner.example{target}"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://partner.example", Url("http", "partner.example", 80, "/")),
        ("HTTPS://Partner.Example:8443?x=1", Url("https", "partner.example", 8443, "/?x=1")),
        ("http://[::1]:81/a", Url("http", "::1", 81, "/a")),
        (
            "http://bücher.example/größe",
            Url("http", "xn--bcher-kva.example", 80, "/gr%C3%B6%C3%9Fe"),
        ),
        ("http://a%40b:p%3Aw:d@h/", Url("http", "h", 80, "/", "a@b", "p:w:d")),
        ("http://user@h/", Url("http", "h", 80, "/", "user", None)),
    ],
)
def test_the_parts_of_a_url(text: str, url: Url) -> None:
    assert parse_url(text) == url


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://h:80/", "h"),
        ("https://h:443/", "h"),
        ("https://h:80/", "h:80"),
        ("http://[fe80::1%25eth0]:8080/", "[fe80::1%eth0]:8080"),
    ],
)
def test_the_port_is_said_where_it_is_not_the_schemes_own(url: str, authority: str) -> None:
    assert parse_url(url).authority == authority


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ftp://h/", "an http or https URL with a host"),
        ("https:///rows", "with a host"),
        ("", "with a host"),
        (None, "with a host"),
        ("http://h/a b", "a blank is written %20"),
        ("http://h/a\r\nX-Injected: 1", "control characters"),
        ("http://h/a#b", "a # is written %23"),
        ("http://h:0/", "1 to 65535"),
        ("http://h:65536/", "1 to 65535"),
        ("http://a..b\x00/", "control characters"),
        ("http://" + "ü" * 80 + "/", "a name or an address"),
    ],
)
def test_what_cannot_be_sent_as_written_is_refused_with_what_to_write(
    text: object, told: str
) -> None:
    with pytest.raises(ValueError, match=told.replace("(", r"\(")):
        parse_url(text)


def test_no_repr_shows_what_may_be_secret() -> None:
    shown = repr(parse_url("https://user:hunter2@h/hook?sig=s3cret"))
    assert not [secret for secret in ("user", "hunter2", "s3cret") if secret in shown]
