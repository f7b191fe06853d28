"""`feeds explain`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

import config
from app.cli.loading import configured_feed, load_config
from app.cli.options import FeedName
from app.cli.servers import run
from app.cli.terminal import WRONG_USAGE, AsJson, fail, print_json
from app.feeds.feed import Feed
from app.reads.statements import Statements, read_statements
from app.runtime.reader import open_reader
from app.source.explain import PRODUCTS


def explain_feed(
    name: FeedName,
    product: Annotated[
        str | None,
        typer.Option("--dialect", help=f"Do not connect; write for {' or '.join(PRODUCTS)}."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The statements that polling and reconciling a feed send, for a database administrator to
    review.
    """
    if product is not None and product not in PRODUCTS:
        fail(f"--dialect: found {product!r}; {' or '.join(PRODUCTS)}", WRONG_USAGE)
    loaded = load_config()
    feed = configured_feed(loaded, name)
    found = run(_read(loaded, feed, product))
    if as_json:
        print_json(
            {
                "feed": name,
                "note": found.note,
                "statements": [asdict(statement) for statement in found.statements],
            }
        )
        return
    if found.note:
        print(f"-- {found.note}")
    for statement in found.statements:
        print(f"\n-- {statement.name}: {statement.when}\n{statement.sql};")
        for parameter, value in statement.parameters.items():
            print(f"--   {parameter} = {value!r}")


async def _read(loaded: config.Config, feed: Feed, product: str | None) -> Statements:
    async with open_reader(loaded) as reader:
        return await read_statements(feed, lambda: reader.source, product)
