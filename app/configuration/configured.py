"""Compares the configuration that each process reports with the feeds.toml of whoever asks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from app.core.clock import rough, utc_now
from app.ledger import Ledger
from app.ledger.heartbeats import Heartbeat
from config import Config

HEARD_OF = timedelta(minutes=1)
"""A process not heard from for longer is ignored: it has probably stopped."""


@dataclass(frozen=True, slots=True)
class Own:
    """The caller's feeds.toml."""

    hash: str
    """See `config.Config`."""
    changed_at: datetime | None
    """When the file was last written; `None`: unknown."""

    @classmethod
    def of(cls, loaded: Config) -> Own | None:
        """Of a configuration as it was loaded; `None`: its feeds.toml is wrong."""
        if not loaded.feeds_hash:
            return None
        try:
            changed = loaded.settings.feeds_file.stat().st_mtime
        except OSError:
            return cls(loaded.feeds_hash, None)
        return cls(loaded.feeds_hash, datetime.fromtimestamp(changed, UTC))


@dataclass(frozen=True, slots=True)
class Differs:
    """A process that runs with the wrong configuration."""

    process: str
    said: str

    def __str__(self) -> str:
        return f"{self.process} {self.said}"


def said_of_configuration(heartbeat: Heartbeat, own: Own | None, now: datetime) -> Iterator[str]:
    """What is wrong with a process's configuration, and what to do. Nothing if it is up to date.

    Without `own` nobody can tell whether it is: what the process says itself is left.
    """
    found = heartbeat.configuration
    if found is None:
        return
    read = f"read {rough(now - found.read_at)} ago"
    if found.kept_because is not None and found.kept_since is not None:
        yield (
            f"keeps the configuration that it {read}: what it has found for {rough(now - found.kept_since)} cannot be "
            f"used: {found.kept_because}"
        )
    elif own is not None and found.feeds != own.hash:
        older = own.changed_at is not None and found.read_at < own.changed_at
        yield (
            f"runs {'an older feeds.toml' if older else 'another feeds.toml than this one'}, {read}: send SIGHUP to "
            f"process {heartbeat.pid} on {heartbeat.host}"
        )
    if found.left:
        yield f"goes on with {', '.join(found.left)} as before: these are read when it starts"


async def differing(ledger: Ledger, own: Own | None) -> list[Differs]:
    """The processes heard from just now that run with the wrong configuration. Raises the ledger's
    errors.
    """
    now = utc_now()
    heartbeats = await ledger.heartbeats.since(now - HEARD_OF)
    return [
        Differs(one.name, said)
        for one in heartbeats
        for said in said_of_configuration(one, own, now)
    ]
