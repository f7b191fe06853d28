"""Settings: the only reader of the environment, of `.env` and of `feeds.toml`.

`load()` returns everything or raises one `ConfigError` that lists every problem found.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.core.budget import MEMORY_BUDGET
from app.core.byte_size import parse_bytes
from app.core.clock import LEASE_LIMIT
from app.core.container import memory_limit
from app.core.env_file import FILE, EnvFile, read_env_file
from app.core.errors import BrokerUnavailable, ConfigError, Problem, UnknownFeed
from app.core.redis_url import RedisUrl, WrongRedisUrl, parse_redis_url
from app.core.secret_files import FILE_SUFFIX, read_secret_files
from app.core.setting_names import misspelt
from app.core.source_url import source_url_problem
from app.core.wrong_values import allowed, found
from app.feeds.document import REFERENCE, Check, Reading, hash_of, read_document, references
from app.feeds.duration import Duration
from app.feeds.feed import Feed
from app.settings.console import ConsoleSettings
from app.settings.sending import SendingSettings
from app.settings.source import SourceSettings

_PART_OF_CONTAINER = 4
"""The part of a container's memory that rows may have, where `memory_budget` says nothing, is one
in so many.
"""


class Settings(SourceSettings, SendingSettings, ConsoleSettings, BaseSettings):
    """What one process needs to know. Each field is an environment variable of the same name in
    capitals; those of a subject with rules of its own are in `app/settings/`.
    """

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    redis_url: SecretStr = SecretStr("redis://localhost:6379/0")
    """The broker and result backend."""
    mongo_url: SecretStr = SecretStr("mongodb://localhost:27017/celery_logs")
    """The ledger; the path names its database."""
    feeds_file: Path = Path("feeds.toml")
    worker_concurrency: int = Field(default=16, ge=1, le=1000)
    """Tasks a worker process takes from Celery at once. None waits for a partner, so few are enough
    for any number of feeds."""
    worker_batches: int = Field(default=500, ge=1, le=100_000)
    """Batches under way in a worker process, shared out among the feeds that have any; each has at
    least one.
    """
    lease: Duration = timedelta(seconds=60)
    """How long a dead worker's batches wait before another takes them, at most `LEASE_LIMIT`. A
    live worker renews.
    """
    sweep_every: Duration = timedelta(seconds=10)
    sweep_limit: int = Field(default=1000, ge=1, le=100_000)
    """Batches, and deliveries of each kind, that one sweep puts back at most."""
    group_size: int = Field(default=250, ge=1, le=1000)
    """Results written to the ledger together."""
    group_wait: Duration = timedelta(milliseconds=200)
    """The longest a result waits for others to be written with."""
    shutdown_grace: Duration = timedelta(seconds=8)
    """How long requests in flight may take to end once a worker is told to stop. Below what kills
    it: Docker waits 10 seconds."""
    connect_timeout: Duration = timedelta(seconds=5)
    """How long the ledger, the broker or the source may take to answer a connection."""
    statement_timeout: Duration = timedelta(seconds=30)
    """How long SQL Server may run one statement."""
    memory_budget: Annotated[int | None, BeforeValidator(parse_bytes)] = Field(
        default=None, ge=2**20
    )
    """Bytes that all rows which a process has in hand may take. None: 256 MiB, or a quarter of the
    container's memory where that is less."""
    progress_bound: Duration = timedelta(seconds=45)
    """How long a worker, beat or a feed may make no progress before `health` says so."""
    timezone: str = "UTC"
    """The zone whose hours and days reports and periodic jobs go by: a name such as
    `Europe/Berlin`.
    """
    reports_dir: Path = Path("reports")
    """Where reports are written as files: `<feed>/<period>.json`, `.csv` and `.html`."""
    archive_dir: Path | None = None
    """Where purge writes what it deletes: one directory for all workers. None: it is deleted
    without an archive.
    """
    purge_share: float = Field(default=0.2, gt=0, le=1)
    """The part of the time that a purge may keep the ledger at work; a quarter of that while
    deliveries are behind.
    """
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    reload_on_change: bool = False
    """Whether worker, beat, metrics and watch read feeds.toml anew by themselves, within 20 seconds
    of a change of it, of `.env` or of a file that they name. They do on SIGHUP in any case."""
    log_format: Literal["auto", "json", "text"] = "auto"
    """`auto`: text on a terminal, JSON elsewhere."""

    @property
    def memory_for_rows(self) -> int:
        """`memory_budget`, or what the container's limit leaves for it: bytes, 1 MiB at least."""
        if self.memory_budget is not None:
            return self.memory_budget
        limit = memory_limit()
        return (
            MEMORY_BUDGET
            if limit is None
            else max(2**20, min(MEMORY_BUDGET, limit // _PART_OF_CONTAINER))
        )

    @property
    def redis(self) -> RedisUrl:
        """`redis_url`, taken apart. Raises `BrokerUnavailable` where it is empty."""
        if not self.redis_url.get_secret_value():
            raise BrokerUnavailable("REDIS_URL is empty: set it in the environment or .env")
        return parse_redis_url(self.redis_url.get_secret_value())

    @property
    def zone(self) -> ZoneInfo:
        """`timezone`, with its rules."""
        return ZoneInfo(self.timezone)

    @field_validator("lease")
    @classmethod
    def _ends_in_time(cls, lease: timedelta) -> timedelta:
        if lease > LEASE_LIMIT:
            raise ValueError(
                f"at most {LEASE_LIMIT.total_seconds() / 60:g}m: a longer lease is taken for none"
            )
        return lease

    @field_validator("timezone")
    @classmethod
    def _is_a_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise ValueError(
                'a name of the IANA time zone database, such as "UTC" or "Europe/Berlin"'
            ) from None
        return name

    @field_validator("archive_dir", mode="before")
    @classmethod
    def _empty_is_none(cls, path: object) -> object:
        return path or None


@dataclass(frozen=True, slots=True)
class Config:
    """The settings and the feeds, checked."""

    settings: Settings
    feeds: Mapping[str, Feed]
    warnings: tuple[Problem, ...] = ()
    """Settings that work but are probably mistakes. None shows a secret."""
    feeds_hash: str = ""
    """A hash of feeds.toml as written, `${NAME}` not replaced: it reveals no secret, nor that one
    was changed. Comments, blanks and the order of names make no difference."""
    files: tuple[Path, ...] = ()
    """Where all of it was read from: `.env`, whether it is there or not, feeds.toml, and files of
    secrets.
    """

    def feed(self, name: str) -> Feed:
        """The feed of that name. Raises `UnknownFeed`."""
        if name not in self.feeds:
            raise UnknownFeed(name, tuple(self.feeds))
        return self.feeds[name]


@dataclass(frozen=True, slots=True)
class Partly:
    """A configuration whose feeds may be wrong."""

    config: Config
    """With the feeds that are right; without a hash where some are not."""
    wrong: tuple[Problem, ...]
    """What keeps any process from running with it."""
    named: frozenset[str] | None
    """The feeds that feeds.toml names, right or wrong; `None`: it cannot be read."""


@dataclass(frozen=True, slots=True)
class Checks:
    """Checks that only an adapter can make; each yields what is wrong. See
    `app/configuration/checks.py`.
    """

    feed: Check
    """A feed's `partner` and `body`."""
    mongo_url: Callable[[str], Iterable[tuple[str, str]]]
    """The ledger's URL: what was found, and what to do."""


NO_CHECKS = Checks(feed=lambda _: (), mongo_url=lambda _: ())


def load(checks: Checks = NO_CHECKS) -> Config:
    """Read the environment, `.env` and the feeds file. Raises `ConfigError` with every problem
    found.

    Processes and commands load with `app.configuration.checks`; without checks it is what the types
    say.
    """
    read = load_partly(checks)
    if read.wrong:
        raise ConfigError(read.wrong)
    return read.config


def load_partly(checks: Checks = NO_CHECKS) -> Partly:
    """The same, with the feeds that are right if others are wrong. Raises `ConfigError`, with every
    problem found, if settings are wrong."""
    file = read_env_file(_directory() / FILE, os.environ)
    environment = {**file.values, **os.environ}
    settings, problems = _read_settings(file, environment, checks)
    path = (
        settings.feeds_file
        if settings
        else _directory() / environment.get("FEEDS_FILE", "feeds.toml")
    )
    document, feed_problems = read_document(path)
    referenced = None if feed_problems else set(references(document))
    feeds: dict[str, Feed] = {}
    if not feed_problems:
        feeds, feed_problems = Reading(str(path), environment, _directory(), checks.feed).feeds(
            document
        )
    problems, feed_problems = _placed([*file.problems, *problems]), _placed(feed_problems)
    if problems or settings is None:
        raise ConfigError([*problems, *feed_problems])
    warnings = (*file.warnings, *_misspelt(file, referenced))
    files = (_directory() / FILE, path, *_secret_files(document, environment))
    found = Config(settings, feeds, warnings, "" if feed_problems else hash_of(document), files)
    tables = document.get("feeds")
    return Partly(
        found, tuple(feed_problems), frozenset(tables) if isinstance(tables, dict) else None
    )


def _placed(problems: Iterable[Problem]) -> list[Problem]:
    """The problems with where each name was given: what is said to be of the environment may be of
    `.env`.
    """
    return [
        replace(one, where=_where(one.field)) if one.where == "environment" else one
        for one in problems
    ]


def _secret_files(document: Mapping[str, Any], environment: Mapping[str, str]) -> Iterator[Path]:
    """The files named by `NAME_FILE`, for settings and for what feeds.toml refers to."""
    for name in sorted({*map(str.upper, _secret_settings()), *references(document)}):
        if path := environment.get(name + FILE_SUFFIX):
            yield _directory() / path


def _directory() -> Path:
    """Where `.env`, `feeds.toml` and every relative path of a setting are: `ROWRELAY_CONFIG`, else
    where we run.
    """
    return Path(os.environ.get("ROWRELAY_CONFIG", ""))


def _read_settings(
    file: EnvFile, environment: Mapping[str, str], checks: Checks
) -> tuple[Settings | None, list[Problem]]:
    """The settings, `.env` below the environment; `None` and what is wrong where they cannot be
    used.
    """
    secrets = [name.upper() for name in _secret_settings()]
    from_files, problems = read_secret_files(secrets, environment, _directory())
    above = {name.lower() for name in os.environ}
    given: dict[str, Any] = {
        name.lower(): value
        for name, value in file.values.items()
        if name.lower() in Settings.model_fields and name.lower() not in above
    }
    given |= {name.lower(): value for name, value in from_files.items()}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        return None, problems + [_setting_problem(detail) for detail in error.errors()]
    paths = {name: getattr(settings, name) for name in ("feeds_file", "reports_dir", "archive_dir")}
    settings = settings.model_copy(
        update={name: _directory() / path for name, path in paths.items() if path}
    )
    doubted = {problem.field for problem in problems}
    return settings, problems + [
        one for one in _url_problems(settings, checks) if one.field + FILE_SUFFIX not in doubted
    ]


def _secret_settings() -> list[str]:
    return [name for name, field in Settings.model_fields.items() if field.annotation is SecretStr]


def _misspelt(file: EnvFile, referenced: set[str] | None) -> Iterator[Problem]:
    """`referenced`: names that the feeds refer to; `None`: nobody knows."""
    known = {name.upper() for name in Settings.model_fields} | (referenced or set())
    known |= {
        f"{name}{FILE_SUFFIX}"
        for name in [*map(str.upper, _secret_settings()), *(referenced or ())]
    }
    used = {name for text in file.values.values() for name in REFERENCE.findall(text)}
    return misspelt(
        file.values.keys() - used, os.environ.keys() - used, known, all_known=referenced is not None
    )


def _url_problems(settings: Settings, checks: Checks) -> list[Problem]:
    """URLs that a client could not read, would read differently, or that would break a promise.

    An empty URL is one that this process does not use.
    """
    wrong: list[tuple[str, str, str]] = []
    if redis := settings.redis_url.get_secret_value():
        try:
            parse_redis_url(redis)
        except WrongRedisUrl as error:
            wrong.append(("REDIS_URL", error.found, error.allowed))
    if (source := settings.source_url.get_secret_value()) and (
        problem := source_url_problem(source)
    ):
        wrong.append(("SOURCE_URL", *problem))
    if ledger := settings.mongo_url.get_secret_value():
        wrong += [("MONGO_URL", *problem) for problem in checks.mongo_url(ledger)]
    return [Problem(_where(name), name, what, right) for name, what, right in wrong]


def _where(name: str) -> str:
    """Where a setting was set."""
    return "environment" if {name, name + FILE_SUFFIX} & os.environ.keys() else ".env"


def _setting_problem(detail: ErrorDetails) -> Problem:
    name = str(detail["loc"][0]).upper() if detail["loc"] else "settings"
    return Problem(_where(name), name, found(detail), allowed(detail))
