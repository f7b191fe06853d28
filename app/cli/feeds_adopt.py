"""`feeds adopt`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from app.cli.loading import configured_feed, load_config
from app.cli.options import FeedName, Why
from app.cli.servers import operator, with_ledger
from app.cli.terminal import AsJson, console, print_json
from app.operations.adopt import Adopted, adopt
from app.operations.by import By


def adopt_feed(name: FeedName, why: Why = None, as_json: AsJson = False) -> None:
    """Say that a feed whose table, key or cursor was changed in feeds.toml still reads the source
    of its deliveries.

    A renamed table, for instance. What is another source needs a feed of another name. Resumes the
    feed where it was paused for this.
    """
    loaded = load_config()
    feed = configured_feed(loaded, name)
    adopted = with_ledger(loaded, lambda ledger: adopt(ledger, feed, By(operator(), why)))
    lines = [*_lines(name, adopted)]
    if as_json:
        print_json({"feed": name, "origin": asdict(adopted.now), "told": lines})
        return
    for line in lines:
        console.print(line, soft_wrap=True)


def _lines(name: str, adopted: Adopted) -> Iterator[str]:
    if not adopted.changed:
        yield f"{name}: its deliveries came from {adopted.now}, as feeds.toml says; nothing was changed"
        return
    yield f"{name}: taken to be the same source: {adopted.before or 'none on record'} is now {adopted.now}"
    if adopted.resumed:
        yield f"{name}: resumed"
