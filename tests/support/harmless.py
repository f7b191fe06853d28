"""Looks in a page for anything that hostile text has become: an element, an attribute, a link, a template."""

from __future__ import annotations

from html.parser import HTMLParser

import httpx

from tests.support.hostile import MARK

ADDRESSES = {"href", "src", "action", "formaction"}
OUR_SCRIPTS = "/static/"


class _Page(HTMLParser):
    """What a browser would make of it."""

    def __init__(self) -> None:
        super().__init__()
        self.harmful: list[str] = []
        self.shown: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """As the library calls it."""
        for name, value in attrs:
            text = (value or "").strip().lower()
            if name.startswith("on") or name == "style":
                self.harmful.append(f"<{tag} {name}=…>")
            if name in ADDRESSES and not text.startswith(("/", "?", "#")) and text:
                self.harmful.append(f"<{tag} {name}={text}>")
            if tag == "script" and name == "src" and not text.startswith(OUR_SCRIPTS):
                self.harmful.append(f"<script src={text}>")
        if tag == "script" and "src" not in dict(attrs):
            self.harmful.append("<script> within the page")
        if tag == "img" and dict(attrs).get("src") == "x":
            self.harmful.append("<img src=x>")

    def handle_data(self, data: str) -> None:
        """As the library calls it."""
        self.shown.append(data)


def assert_harmless(page: httpx.Response, *, shows: bool = False) -> None:
    """Hostile text in the page is text. `shows`: some of it must be there."""
    assert page.headers["content-type"].startswith("text/html"), page.headers
    read = _Page()
    read.feed(page.text)
    assert read.harmful == []
    assert "&lt;class &#39;str" not in page.text, "a template was computed"
    assert MARK in page.text or not shows, "the text is not there at all"
