"""Reloads the configuration of a running process, on request or when its files change.

A thread of its own reads and checks, so that neither the event loop nor a signal handler waits for
a file. What it found takes effect in one step: in a worker between two steps of its event loop, in
beat between two ticks.

1. it cannot be used: the process goes on with what it has, and says why, in the log and in its
   heartbeat;
2. it can: feeds that are the same stay the very same objects, and with them their routes and
   limits;
3. settings are read when a process starts. One that changed is named, and the process goes on with
   what it was.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeAlias

import structlog

import config
from app.configuration.checks import load
from app.configuration.loaded import Loaded, say_doubts
from app.core.errors import ConfigError
from app.feeds.feed import Feed

log = structlog.get_logger()

LOOK_EVERY = timedelta(seconds=10)
"""How often the files are looked at, where `RELOAD_ON_CHANGE` says so. A change is taken up with
the second look that finds it, so that a file half written is not: within 20 seconds."""
_DO = "mend it, and send SIGHUP again"

Apply: TypeAlias = Callable[[config.Config], None]
"""Has a configuration take effect: calls `Loaded.replace`, there where nothing sees the old and the
new at once.
"""


@dataclass(frozen=True, slots=True)
class Changes:
    """Feeds, by name."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    @classmethod
    def between(cls, before: Mapping[str, Feed], after: Mapping[str, Feed]) -> Changes:
        """What changed."""
        return cls(
            added=tuple(name for name in after if name not in before),
            removed=tuple(name for name in before if name not in after),
            changed=tuple(name for name in after if name in before and after[name] != before[name]),
        )


class Reloader:
    """Reloads the configuration of one process. Call `ask` from anywhere."""

    def __init__(
        self,
        loaded: Loaded,
        apply: Apply,
        every: timedelta = LOOK_EVERY,
        *,
        always: bool = False,
    ) -> None:
        """`every`: how often to check the files for changes if `RELOAD_ON_CHANGE` is set, or
        `always`."""
        self._loaded = loaded
        self._apply = apply
        looks = always or loaded.settings.reload_on_change
        self._every = every.total_seconds() if looks else None
        self._done: Callable[[], object] = lambda: None
        self._asked: SimpleQueue[bool] = SimpleQueue()
        """Its `put` is safe in a signal handler."""
        self._thread = threading.Thread(target=self._run, name="rowrelay-reload", daemon=True)
        self._taken = self._seen = stamps(loaded.current)

    def start(self, done: Callable[[], object] = lambda: None) -> None:
        """Start. Requests made before are handled now. `done` is called after each reload, whatever
        the outcome.
        """
        self._done = done
        if not self._thread.is_alive():
            self._thread.start()

    def ask(self) -> None:
        """Request a reload. Returns at once; safe in a signal handler."""
        self._asked.put(True)

    def stop(self) -> None:
        """Stop. Waits for a reload under way."""
        self._asked.put(False)
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                wanted = self._asked.get(timeout=self._every)
            except Empty:
                self._look()
                continue
            while wanted and not self._asked.empty():  # several that came together are one
                wanted = self._asked.get()
            if not wanted:
                return
            self.read_anew()

    def _look(self) -> None:
        """Reload if the files have changed and have been stable since the last check."""
        found = stamps(self._loaded.current)
        settled = found == self._seen
        self._seen = found
        if settled and (found != self._taken or self._loaded.keeps):
            self._taken = found
            self.read_anew()

    def read_anew(self) -> None:
        """Read, check and apply, or report why not. Never raises."""
        before = stamps(self._loaded.current)
        try:
            found = self._loaded.joined(load())
            changes = Changes.between(self._loaded.feeds, found.feeds)
            say_doubts(doubt for doubt in found.warnings if doubt not in self._loaded.warnings)
            self._apply(found)
        except ConfigError as error:
            self._keep("; ".join(map(str, error.problems)))
        except Exception as error:
            log.exception("configuration_not_read", kind=type(error).__name__)
            self._keep(f"it could not be read: {type(error).__name__}; the log has more")
        else:
            self._say(changes)
        self._taken = self._seen = before
        self._tell()

    def _tell(self) -> None:
        try:
            self._done()
        except Exception as error:
            log.exception("configuration_not_told", kind=type(error).__name__)

    def _keep(self, why: str) -> None:
        if self._loaded.keep(why):
            log.error("configuration_kept", found=why, do=_DO)

    def _say(self, changes: Changes) -> None:
        log.info(
            "configuration_read_anew",
            added=changes.added, removed=changes.removed, changed=changes.changed,
            feeds_hash=self._loaded.current.feeds_hash,
        )  # fmt: skip
        if left := self._loaded.told().left:
            log.warning(
                "settings_need_restart",
                settings=left,
                do="they are as before until this process is restarted",
            )


def stamps(loaded: config.Config) -> tuple[tuple[int, int, int] | None, ...]:
    """For each file of the configuration, a value that changes with it; `None` if the file is
    missing.

    Certificates and keys that feeds name are among them.
    """
    tls = [feed.partner.tls for feed in loaded.feeds.values() if feed.partner.tls]
    of_tls = [
        Path(path) for one in tls for path in (one.ca_file, one.cert_file, one.key_file) if path
    ]
    return tuple(map(_stamp, (*loaded.files, *of_tls)))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
