"""The configuration of a running process: read at startup, replaced on reload (`reload.py`)."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from dataclasses import replace
from datetime import datetime

import structlog

from app.core.clock import utc_now
from app.core.errors import Problem
from app.feeds.feed import Feed
from app.ledger.heartbeats import Configured
from config import Config, Settings

log = structlog.get_logger()

WHY_LIMIT = 1000
"""Characters kept of why a configuration cannot be used."""
_FOLLOWS = "source_url"
"""Derived from the `mssql_*` settings if those name the source."""


class Loaded:
    """The current configuration. Any thread may read it at any time; one thread replaces it
    atomically.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._read_at = utc_now()
        self._kept_since: datetime | None = None
        self._kept_because: str | None = None
        self._left: tuple[str, ...] = ()

    @property
    def current(self) -> Config:
        """The whole of it, right now."""
        return self._config

    @property
    def settings(self) -> Settings:
        """As read at startup."""
        return self._config.settings

    @property
    def feeds(self) -> Mapping[str, Feed]:
        """The current feeds: a new mapping after each change, so that iterating over one is safe."""
        return self._config.feeds

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """See `Config`."""
        return self._config.warnings

    @property
    def keeps(self) -> bool:
        """Whether the last reload was rejected."""
        return self._kept_because is not None

    def feed(self, name: str) -> Feed:
        """The feed of that name. Raises `UnknownFeed`."""
        return self._config.feed(name)

    def told(self) -> Configured:
        """What the process reports about it."""
        return Configured(
            self._config.feeds_hash, self._read_at, self._kept_since, self._kept_because, self._left
        )

    def joined(self, found: Config) -> Config:
        """The part of a reloaded configuration that can take effect: its feeds, with the settings
        of startup.

        A feed that is the same as before is the same object. Notes which settings have changed.
        """
        self._left = _changed(self.settings, found.settings)
        feeds = {name: self._same(feed) for name, feed in found.feeds.items()}
        settings = self.settings.model_copy(update={"feeds_file": found.settings.feeds_file})
        return replace(found, settings=settings, feeds=feeds)

    def replace(self, config: Config) -> None:
        """Use this configuration from now on."""
        self._config = config
        self._read_at = utc_now()
        self._kept_since = self._kept_because = None

    def keep(self, why: str) -> bool:
        """Keep the current configuration because the new one is unusable. Returns whether the
        reason is new.
        """
        why = why[:WHY_LIMIT]
        news = why != self._kept_because
        self._kept_since = self._kept_since or utc_now()
        self._kept_because = why
        return news

    def _same(self, feed: Feed) -> Feed:
        known = self.feeds.get(feed.name)
        return known if known == feed and known is not None else feed


class LiveFeeds(Mapping[str, Feed]):
    """A view of the current feeds that follows reloads.

    What it gives to go through (`values`, `items`, …) stays as it is, whatever comes meanwhile.
    """

    def __init__(self, of: Config | Loaded) -> None:
        self._of = of

    def __getitem__(self, name: str) -> Feed:
        return self._of.feeds[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._of.feeds)

    def __len__(self) -> int:
        return len(self._of.feeds)

    def keys(self) -> KeysView[str]:
        """The current names."""
        return KeysView(self._of.feeds)

    def values(self) -> ValuesView[Feed]:
        """The current feeds."""
        return ValuesView(self._of.feeds)

    def items(self) -> ItemsView[str, Feed]:
        """Both."""
        return ItemsView(self._of.feeds)


def say_doubts(doubts: Iterable[Problem]) -> None:
    """Log a warning for each setting that works but is probably a mistake."""
    for doubt in doubts:
        log.warning(
            "setting_doubtful",
            setting=doubt.field,
            where=doubt.where,
            found=doubt.found,
            do=doubt.allowed,
        )


def _changed(before: Settings, after: Settings) -> tuple[str, ...]:
    """The names of the settings that differ, other than the path of feeds.toml, which may change."""
    names = [
        name for name in Settings.model_fields if getattr(before, name) != getattr(after, name)
    ]
    parts = any(name.startswith("mssql_") for name in names)
    return tuple(
        name.upper() for name in names if name != "feeds_file" and not (parts and name == _FOLLOWS)
    )
