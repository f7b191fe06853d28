"""What a command reads before it works: the configuration, and values of options that are written
as in it.

Settings are imported where they are read: a command that needs none, as with `--help`, loads none.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import typer

from app.cli.terminal import WRONG_USAGE, fail, warn
from app.core.errors import ConfigError, UnknownFeed

if TYPE_CHECKING:
    import config
    from app.feeds.feed import Feed


def load_config(log_level: str = "WARNING") -> config.Config:
    """The configuration, or one message that lists every problem, and exit code 2.

    From here on what is logged, of `log_level` and above, goes to stderr, so that stdout is the
    command's own.
    """
    read = load_partly(log_level)
    if read.wrong:
        fail(str(ConfigError(read.wrong)), WRONG_USAGE)
    return read.config


def load_partly(log_level: str = "WARNING") -> config.Partly:
    """The same, for a command that has something to tell without the feeds that are wrong."""
    from app.configuration import checks  # noqa: PLC0415 - as the module says
    from app.core.logs import configure_logging  # noqa: PLC0415 - as above

    try:
        read = checks.load_partly()
    except ConfigError as error:
        fail(str(error), WRONG_USAGE)
    for warning in read.config.warnings:
        warn(f"warning: {warning}")
    configure_logging(log_level, read.config.settings.log_format)
    return read


def configured_feed(loaded: config.Config, name: str) -> Feed:
    """The feed of that name, or one message that lists those there are, and exit code 2."""
    try:
        return loaded.feed(name)
    except UnknownFeed as error:
        fail(str(error), WRONG_USAGE)


def duration_option(value: object) -> timedelta:
    """An option's value, written as any duration is. Raises `typer.BadParameter`, which exits with
    code 2.
    """
    from app.feeds.duration import parse_duration  # noqa: PLC0415 - as the module says

    try:
        parsed = parse_duration(value)
    except ValueError as error:
        raise typer.BadParameter(f"{value!r}: {error}") from error
    assert isinstance(parsed, timedelta)  # noqa: S101 - what it makes of text
    if not parsed:
        raise typer.BadParameter(f"{value!r}: a duration above 0")
    return parsed
