"""Settings: the only reader of the environment, of `.env` and of `feeds.toml`.

`load()` returns everything or raises one `ConfigError` that lists every problem found.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.errors import ConfigError, Problem, UnknownFeed
from app.feed import Duration, Feed
from app.partner.request import problems as header_problems

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SECRET_FIELDS = re.compile(r"token|key|password|secret|url", re.IGNORECASE)


class Settings(BaseSettings):
    """What one process needs to know. Each field is an environment variable of the same name in capitals."""

    model_config = SettingsConfigDict(env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True)

    redis_url: SecretStr = SecretStr("redis://localhost:6379/0")
    """The broker and result backend."""
    mongo_url: SecretStr = SecretStr("mongodb://localhost:27017/celery_logs")
    """The ledger; the path names its database."""
    source_url: SecretStr = SecretStr("")
    """The source database, plain (`mssql://…`) or with its driver (`mssql+aioodbc://…`)."""
    feeds_file: Path = Path("feeds.toml")
    worker_concurrency: int = Field(default=16, ge=1, le=1000)
    """Tasks a worker process runs at once, each a batch or a periodic job; requests are bounded a feed."""
    lease: Duration = timedelta(seconds=60)
    """How long a dead worker's batches wait before another takes them. A live worker renews."""
    visibility_timeout: Duration = timedelta(minutes=5)
    """When Redis hands an unacknowledged message to another worker. Short: leases keep a batch with one worker."""
    sweep_every: Duration = timedelta(seconds=10)
    sweep_limit: int = Field(default=1000, ge=1, le=100_000)
    """Batches, and deliveries of each kind, that one sweep puts back at most."""
    group_size: int = Field(default=50, ge=1, le=1000)
    """Results written to the ledger together."""
    group_wait: Duration = timedelta(milliseconds=200)
    """The longest a result waits for others to be written with."""
    connect_timeout: Duration = timedelta(seconds=5)
    """How long the ledger, the broker or the source may take to answer a connection."""
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    log_format: str = Field(default="auto", pattern="^(auto|json|text)$")
    """`auto`: text on a terminal, JSON elsewhere."""


@dataclass(frozen=True, slots=True)
class Config:
    """The settings and the feeds, checked."""

    settings: Settings
    feeds: Mapping[str, Feed]

    def feed(self, name: str) -> Feed:
        """The feed of that name. Raises `UnknownFeed`."""
        if name not in self.feeds:
            raise UnknownFeed(name, tuple(self.feeds))
        return self.feeds[name]


def load() -> Config:
    """Read the environment, `.env` and the feeds file. Raises `ConfigError` with every problem found."""
    problems: list[Problem] = []
    settings: Settings | None = None
    try:
        settings = Settings()
    except ValidationError as error:
        problems += [_setting_problem(detail) for detail in error.errors()]
    path = settings.feeds_file if settings else Path(_environment().get("FEEDS_FILE", "feeds.toml"))
    feeds, feed_problems = _read_feeds(path, _environment())
    problems += feed_problems
    if problems or settings is None:
        raise ConfigError(problems)
    return Config(settings, feeds)


def _environment() -> dict[str, str]:
    """`.env` below the real environment, as pydantic-settings layers them."""
    values = {name: value for name, value in dotenv_values(".env").items() if value is not None}
    return values | dict(os.environ)


def _setting_problem(detail: ErrorDetails) -> Problem:
    name = str(detail["loc"][0]).upper() if detail["loc"] else "settings"
    where = "environment" if name in os.environ else ".env"
    return Problem(where, name, _found(detail), _allowed(detail))


def _read_feeds(path: Path, environment: Mapping[str, str]) -> tuple[dict[str, Feed], list[Problem]]:
    where = str(path)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, [Problem(where, "FEEDS_FILE", "no such file", "write one: feeds.example.toml shows how")]
    except (OSError, UnicodeDecodeError) as error:
        return {}, [Problem(where, "FEEDS_FILE", str(error), "a readable UTF-8 file")]
    except tomllib.TOMLDecodeError as error:
        return {}, [Problem(where, "TOML", str(error), "valid TOML 1.0")]
    tables = document.get("feeds")
    if not isinstance(tables, dict) or not tables or set(document) != {"feeds"}:
        return {}, [Problem(where, "feeds", ", ".join(document) or "nothing", "tables [feeds.<name>], at least one")]
    feeds: dict[str, Feed] = {}
    problems: list[Problem] = []
    for name, table in tables.items():
        feed, found = _read_feed(where, name, table, environment)
        problems += found
        if feed is not None:
            feeds[name] = feed
    return feeds, problems


def _read_feed(
    where: str, name: str, table: object, environment: Mapping[str, str]
) -> tuple[Feed | None, list[Problem]]:
    if not isinstance(table, dict):
        return None, [Problem(where, f"feeds.{name}", repr(table), f"a table [feeds.{name}]")]
    missing = sorted(set(_references(table)) - environment.keys())
    if missing:
        return None, [
            Problem(where, f"feeds.{name}", f"${{{variable}}}", f"set {variable} in the environment or .env")
            for variable in missing
        ]
    try:
        feed = Feed.model_validate({**_substitute(table, environment), "name": name})
    except ValidationError as error:
        details = error.errors()
        return None, [Problem(where, _path(name, detail), _found(detail), _allowed(detail)) for detail in details]
    return feed, [replace(problem, where=where) for problem in header_problems(feed)]


def _references(value: object) -> Iterator[str]:
    """Every NAME in a `${NAME}` anywhere below `value`."""
    if isinstance(value, str):
        yield from _REFERENCE.findall(value)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def _substitute(value: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _REFERENCE.sub(lambda match: environment[match[1]], value)
    if isinstance(value, dict):
        return {key: _substitute(item, environment) for key, item in value.items()}
    if isinstance(value, list):
        return [_substitute(item, environment) for item in value]
    return value


def _path(name: str, detail: ErrorDetails) -> str:
    return ".".join(["feeds", name, *map(str, detail["loc"])])


def _found(detail: ErrorDetails) -> str:
    if detail["type"] in ("missing", "union_tag_not_found"):
        return "nothing"
    if any(_SECRET_FIELDS.search(str(part)) for part in detail["loc"]):
        return "a value not shown here"
    return repr(detail["input"])


def _allowed(detail: ErrorDetails) -> str:
    kind, message = detail["type"], detail["msg"]
    if kind == "missing":
        return "this field is required"
    if kind == "extra_forbidden":
        return "no such field: check the spelling"
    return message.removeprefix("Value error, ").removeprefix("Input should be ").strip()
