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
from app.core.errors import ConfigError, SourceRefused, SourceUnavailable
from app.feeds.feed import Feed
from app.runtime.reader import open_reader
from app.source.explain import PRODUCTS, Explained, explain_unseen


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
    note, statements = run(_explained(loaded, configured_feed(loaded, name), product))
    if as_json:
        print_json(
            {
                "feed": name,
                "note": note,
                "statements": [asdict(statement) for statement in statements],
            }
        )
        return
    if note:
        print(f"-- {note}")
    for statement in statements:
        print(f"\n-- {statement.name}: {statement.when}\n{statement.sql};")
        for parameter, value in statement.parameters.items():
            print(f"--   {parameter} = {value!r}")


async def _explained(
    loaded: config.Config, feed: Feed, product: str | None
) -> tuple[str | None, list[Explained]]:
    """The statements, and what to know about them where the source could not be asked."""
    if product is not None:
        return f"not asked: the columns are those that the feed names; {product}", explain_unseen(
            feed, product
        )
    known = "mssql"
    try:
        async with open_reader(loaded) as reader:
            known = reader.source.product
            return None, await reader.source.explain(feed)
    except (ConfigError, SourceUnavailable, SourceRefused) as error:
        told = str(error).replace("\n", " ")
        return (
            f"not seen ({told}): the columns are those that the feed names; {known}",
            explain_unseen(feed, known),
        )
