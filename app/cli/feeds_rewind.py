"""`feeds rewind`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer

from app.cli.loading import configured_feed, load_config
from app.cli.options import FeedName, Why
from app.cli.servers import operator, session
from app.cli.terminal import FOUND_WRONG, WRONG_USAGE, AsJson, console, fail, print_json
from app.feeds.cursors import POSITION_FORMS
from app.operations.by import By
from app.operations.rewind import Rewound


def rewind_feed(
    name: FeedName,
    *,
    to: Annotated[str, typer.Option(help=f"beginning, now, or a position: {POSITION_FORMS}.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what would be read; move nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    why: Why = None,
    as_json: AsJson = False,
) -> None:
    """Move a feed's cursor, so that rows are read again. Rows that the ledger has are not delivered
    again.

    Those whose records are purged are: a rewind to before them asks, and without a terminal wants
    --yes.
    """
    loaded = load_config()
    feed = configured_feed(loaded, name)
    try:
        position = to if to in ("beginning", "now") else feed.cursor.parse_position(to)
    except ValueError as error:
        fail(f"--to: found {to!r}; {error}", WRONG_USAGE)
    with session(loaded) as opened:
        if dry_run:
            rewound = opened.run(lambda at: at.rewinding.preview(feed, position))
        else:
            if not yes:
                _confirm_again(
                    name, opened.run(lambda at: at.rewinding.delivered_again(feed, position))
                )
            by = By(operator(), why)
            rewound = opened.run(lambda at: at.rewinding.rewind(feed, position, by))
    if as_json:
        print_json({"feed": name, "dry_run": dry_run, **asdict(rewound)})
    else:
        for line in _lines(name, rewound):
            console.print(line, soft_wrap=True)


def _confirm_again(name: str, purged: str | None) -> None:
    """Ask a person before rows are read that are delivered again; a program must say `--yes`."""
    if purged is None:
        return
    said = f"{name}: records up to {purged} are purged: of rows up to there, those read again are delivered again"
    if not sys.stdin.isatty():
        fail(f"{said}; to do it: --yes", WRONG_USAGE)
    if not typer.confirm(f"{said}. Rewind?", err=True):
        raise typer.Exit(FOUND_WRONG)


def _lines(name: str, rewound: Rewound) -> Iterator[str]:
    """In words."""
    if rewound.reread is None:
        yield f"{name}: moved from {rewound.stood_said} to {rewound.stands_said}"
        return
    rows, known = rewound.reread.rows, rewound.reread.known
    yield f"{name}: stands at {rewound.stood_said}; would move to {rewound.stands_said}; nothing was moved"
    yield (
        f"rows to read from there: {'' if rewound.reread.complete else 'at least '}{rows}; of these {known} are in "
        f"the ledger (read again, not delivered again) and {rows - known} are not"
    )
