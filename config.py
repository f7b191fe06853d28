"""Settings: the only reader of the environment, of `.env` and of `feeds.toml`.

`load()` returns everything or raises one `ConfigError` that lists every problem found.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote
from zoneinfo import ZoneInfo

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.errors import ConfigError, Problem, UnknownFeed
from app.feed import Duration, Feed
from app.ledger.url import url_problems
from app.partner.masking import longest_first, secrets_of_url
from app.partner.problems import problems as partner_problems
from app.partner.signing import usable
from app.redis_url import WrongRedisUrl, parse_redis_url
from app.url import parse_url

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_URLS = (("partner", "url"), ("partner", "status_url"), ("partner", "auth", "token_url"))
_SECRET_FIELDS = re.compile(r"auth|body|cookie|header|key|password|secret|sign|token|url", re.IGNORECASE)
_SHORTEST_SECRET = 4
"""Characters. A shorter value would be found, and masked, in many a text that has nothing to do with it."""
_SET = "set {0} or {0}_FILE in the environment or .env"
_FILE = "_FILE"
"""`NAME_FILE` names a file that holds the value of `NAME`, as Docker and Kubernetes hand out secrets."""


class Settings(BaseSettings):
    """What one process needs to know. Each field is an environment variable of the same name in capitals."""

    model_config = SettingsConfigDict(env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True)

    redis_url: SecretStr = SecretStr("redis://localhost:6379/0")
    """The broker and result backend."""
    mongo_url: SecretStr = SecretStr("mongodb://localhost:27017/celery_logs")
    """The ledger; the path names its database."""
    mssql_host: str = ""
    """An SQL Server, in parts, instead of `source_url`: its host name or address."""
    mssql_port: int = Field(default=1433, ge=1, le=65535)
    mssql_database: str = ""
    mssql_user: str = ""
    mssql_password: SecretStr = SecretStr("")
    source_url: SecretStr = Field(default=SecretStr(""), validate_default=True)
    """The source database, plain (`mssql://…`) or with its driver (`mssql+aioodbc://…`); made of the parts if empty."""
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
    group_size: int = Field(default=100, ge=1, le=1000)
    """Results written to the ledger together."""
    group_wait: Duration = timedelta(milliseconds=200)
    """The longest a result waits for others to be written with."""
    shutdown_grace: Duration = timedelta(seconds=8)
    """How long requests in flight may take to end once a worker is told to stop. Below what kills it: Docker waits
    10 seconds."""
    connect_timeout: Duration = timedelta(seconds=5)
    """How long the ledger, the broker or the source may take to answer a connection."""
    statement_timeout: Duration = timedelta(seconds=30)
    """How long SQL Server may run one statement."""
    progress_bound: Duration = timedelta(seconds=45)
    """How long a worker, beat or a feed may make no progress before `health` says so."""
    timezone: str = "UTC"
    """The zone whose hours and days reports and periodic jobs go by: a name such as `Europe/Berlin`."""
    reports_dir: Path = Path("reports")
    """Where reports are written as files: `<feed>/<period>.json`, `.csv` and `.html`."""
    report_send: str = Field(default="day", pattern="^(day|hour|day,hour|hour,day)$")
    """The periods whose report of all feeds is sent by itself, on every way that is configured below."""
    report_mail_from: str = ""
    report_mail_to: str = ""
    """Addresses, separated by commas. Empty: no mail."""
    smtp_host: str = Field(default="", validate_default=True)
    smtp_port: int = Field(default=587, ge=1, le=65535)
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    smtp_user: str = ""
    smtp_password: SecretStr = SecretStr("")
    smtp_ca_file: str = ""
    """The authorities trusted, in place of the system's."""
    report_webhook_url: SecretStr = SecretStr("")
    """Where reports are posted as JSON. Empty: nowhere."""
    report_webhook_secret: SecretStr = SecretStr("")
    """Signs them by Standard Webhooks: base64 of 24 to 64 bytes, with or without `whsec_`."""
    archive_dir: Path | None = None
    """Where purge writes what it deletes: one directory for all workers. None: it is deleted without an archive."""
    purge_share: float = Field(default=0.2, gt=0, le=1)
    """The part of the time that a purge may keep the ledger at work; a quarter of that while deliveries are behind."""
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    log_format: str = Field(default="auto", pattern="^(auto|json|text)$")
    """`auto`: text on a terminal, JSON elsewhere."""

    @property
    def zone(self) -> ZoneInfo:
        """`timezone`, with its rules."""
        return ZoneInfo(self.timezone)

    @field_validator("timezone")
    @classmethod
    def _is_a_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise ValueError('a name of the IANA time zone database, such as "UTC" or "Europe/Berlin"') from None
        return name

    @field_validator("smtp_host")
    @classmethod
    def _mail_is_whole(cls, host: str, found: ValidationInfo) -> str:
        """A mail needs a server, a sender and recipients. Raises `ValueError` for some without the others."""
        given = {
            "SMTP_HOST": host,
            **{name.upper(): found.data.get(name) for name in ("report_mail_from", "report_mail_to")},
        }
        missing = [name for name, value in given.items() if not value]
        if missing and len(missing) < len(given):
            raise ValueError(f"set {' and '.join(missing)} too: mail needs {', '.join(given)}")
        return host

    @field_validator("report_webhook_url")
    @classmethod
    def _is_a_url(cls, url: SecretStr) -> SecretStr:
        if url.get_secret_value():
            parse_url(url.get_secret_value())
        return url

    @field_validator("report_webhook_secret")
    @classmethod
    def _is_a_secret(cls, secret: SecretStr) -> SecretStr:
        if secret.get_secret_value() and not usable(secret):
            raise ValueError("base64 of 24 to 64 bytes, with or without whsec_")
        return secret

    @field_validator("archive_dir", mode="before")
    @classmethod
    def _empty_is_none(cls, path: object) -> object:
        return path or None

    @field_validator("source_url")
    @classmethod
    def _of_parts(cls, url: SecretStr, found: ValidationInfo) -> SecretStr:
        """The URL, made of `mssql_*` where that is how the source is given. Raises `ValueError` for both."""
        parts = found.data
        wrong_already = "mssql_port" not in parts
        if wrong_already or not any(parts[name] for name in ("mssql_host", "mssql_database", "mssql_user")):
            return url
        if url.get_secret_value():
            raise ValueError("set either SOURCE_URL or MSSQL_HOST and the others of its kind, not both")
        if missing := [name.upper() for name in ("mssql_host", "mssql_database") if not parts[name]]:
            raise ValueError(f"set {' and '.join(missing)} too, or SOURCE_URL in place of all MSSQL_ settings")
        return SecretStr(_mssql_url(parts))


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


def _mssql_url(parts: Mapping[str, Any]) -> str:
    """`mssql://user:password@host:port/database`, each part escaped; without a user, the process's Kerberos ticket."""
    password = parts["mssql_password"].get_secret_value()
    user = f"{quote(parts['mssql_user'], safe='')}:{quote(password, safe='')}@" if parts["mssql_user"] else ""
    host = f"[{parts['mssql_host']}]" if ":" in parts["mssql_host"] else parts["mssql_host"]
    return f"mssql://{user}{host}:{parts['mssql_port']}/{quote(parts['mssql_database'], safe='')}"


def load() -> Config:
    """Read the environment, `.env` and the feeds file. Raises `ConfigError` with every problem found."""
    environment = _environment()
    secrets = [name.upper() for name, field in Settings.model_fields.items() if field.annotation is SecretStr]
    from_files, problems = _read_secrets(secrets, environment)
    given: dict[str, Any] = {name.lower(): value for name, value in from_files.items()}
    settings: Settings | None = None
    try:
        settings = Settings(**given)
    except ValidationError as error:
        problems += [_setting_problem(detail) for detail in error.errors()]
    if settings:
        doubted = {problem.field for problem in problems}
        problems += [found for found in _url_problems(settings) if found.field + _FILE not in doubted]
    path = settings.feeds_file if settings else Path(environment.get("FEEDS_FILE", "feeds.toml"))
    feeds, feed_problems = _read_feeds(path, environment)
    problems += feed_problems
    if problems or settings is None:
        raise ConfigError(problems)
    return Config(settings, feeds)


def _url_problems(settings: Settings) -> list[Problem]:
    """What of the servers' URLs a client could not read, would read in another sense, or would break a promise with.

    An empty URL is that of a process that asks no such server.
    """
    found: list[tuple[str, str, str]] = []
    if redis := settings.redis_url.get_secret_value():
        try:
            parse_redis_url(redis)
        except WrongRedisUrl as error:
            found.append(("REDIS_URL", error.found, error.allowed))
    if ledger := settings.mongo_url.get_secret_value():
        found += [("MONGO_URL", *problem) for problem in url_problems(ledger)]
    return [Problem(_where(name), name, what, allowed) for name, what, allowed in found]


def _where(name: str) -> str:
    """Where a setting was given."""
    return "environment" if {name, name + _FILE} & os.environ.keys() else ".env"


def _environment() -> dict[str, str]:
    """`.env` below the real environment, as pydantic-settings layers them."""
    values = {name: value for name, value in dotenv_values(".env").items() if value is not None}
    return values | dict(os.environ)


def _read_secrets(names: Iterable[str], environment: Mapping[str, str]) -> tuple[dict[str, str], list[Problem]]:
    """The values of those names that come from a file, without the line end that editors add."""
    values: dict[str, str] = {}
    problems: list[Problem] = []
    for name in names:
        variable = name + _FILE
        path = environment.get(variable)
        if not path:
            continue
        if environment.get(name):
            problems.append(Problem("environment", variable, f"{name} too", f"set either {name} or {variable}"))
            continue
        try:
            values[name] = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            found = getattr(error, "strerror", None) or type(error).__name__
            problems.append(Problem("environment", variable, f"{path!r}: {found}", "a readable UTF-8 file"))
            continue
        if not values[name]:
            problems.append(Problem("environment", variable, f"{path!r}: empty", "a file that holds the value"))
    return values, problems


def _setting_problem(detail: ErrorDetails) -> Problem:
    name = str(detail["loc"][0]).upper() if detail["loc"] else "settings"
    return Problem(_where(name), name, _found(detail), _allowed(detail))


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
    wanted = sorted(set(_references(table)))
    from_files, problems = _read_secrets(wanted, environment)
    environment = {**environment, **from_files}
    problems += [
        Problem(where, f"feeds.{name}", f"${{{variable}}}", _SET.format(variable))
        for variable in wanted
        if variable not in environment and variable + _FILE not in environment
    ]
    if problems:
        return None, problems
    feed: Feed | None = None
    try:
        texts = {text for part in ("body", "partner") for text in _secrets(table.get(part), environment, (part,))}
        secrets = sorted(text for text in texts if len(text) >= _SHORTEST_SECRET)
        feed = Feed.model_validate({"secrets": secrets, **_substitute(table, environment), "name": name})
        problems = [replace(problem, where=where) for problem in partner_problems(feed)]
    except ValidationError as error:
        details = error.errors()
        problems = [Problem(where, _path(name, detail), _found(detail), _allowed(detail)) for detail in details]
    return feed, [_by_name(problem, wanted, environment) for problem in problems]


def _by_name(problem: Problem, variables: Iterable[str], environment: Mapping[str, str]) -> Problem:
    """The problem with `${NAME}`, as it was written, in place of what that stands for."""
    found, allowed = problem.found, problem.allowed
    for variable in sorted(variables, key=lambda name: -len(environment[name])):
        value, name = environment[variable], f"${{{variable}}}"
        if found == repr(value):
            found = repr(name)
        if len(value) >= _SHORTEST_SECRET:
            for text in longest_first({value, repr(value)[1:-1]}):
                found, allowed = found.replace(text, name), allowed.replace(text, name)
    return replace(problem, found=found, allowed=allowed)


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


def _secrets(part: object, environment: Mapping[str, str], path: tuple[str, ...]) -> Iterator[str]:
    """What `${NAME}` stands for anywhere below `part`; in a URL all of it but scheme, host and port."""
    if isinstance(part, str) and path in _URLS:
        given, longer = [], 0
        for found in _REFERENCE.finditer(part):
            begin = found.start() + longer
            longer += len(environment[found[1]]) - len(found[0])
            given.append((begin, found.end() + longer))
        yield from secrets_of_url(_substitute(part, environment), given)
    elif isinstance(part, str):
        yield from (environment[variable] for variable in _REFERENCE.findall(part))
    elif isinstance(part, dict):
        for name, item in part.items():
            yield from _secrets(item, environment, (*path, name))
    elif isinstance(part, list):
        for item in part:
            yield from _secrets(item, environment, (*path, ""))


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
    if isinstance(detail["input"], (dict, list, tuple)):
        return "a table" if isinstance(detail["input"], dict) else "a list"  # there may be secrets in it
    return repr(detail["input"])


def _allowed(detail: ErrorDetails) -> str:
    kind, message = detail["type"], detail["msg"]
    if kind == "missing":
        return "this field is required"
    if kind == "extra_forbidden":
        return "no such field: check the spelling"
    return message.removeprefix("Value error, ").removeprefix("Input should be ").strip()
