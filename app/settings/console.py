"""Settings of the operator console."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel, Field, SecretStr, field_validator

from app.core.url import parse_url
from app.feeds.duration import Duration

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class ConsoleSettings(BaseModel):
    """Where the console is, and how it keeps its users."""

    console_database_url: SecretStr = SecretStr("sqlite:///console.db")
    """The console's own database: SQLite in a file, `postgresql://…` or `mssql://…`."""
    console_url: str = "http://127.0.0.1:8800"
    """The console's address as a browser is given it. Plain `http` on this machine alone."""
    console_host: str = "127.0.0.1"
    """The address that it listens on."""
    console_port: int = Field(default=8800, ge=0, le=65535)
    """0: any that is free."""
    console_metrics_host: str = "127.0.0.1"
    """The address at which its own metrics are served, for Prometheus."""
    console_metrics_port: int = Field(default=0, ge=0, le=65535)
    """The port of its own metrics. 0: they are not served."""
    console_secret: SecretStr = SecretStr("")
    """Signs access tokens: at least 32 characters. Empty: made at the first start, and kept beside
    the SQLite database."""
    console_proxies: str = "127.0.0.1"
    """Reverse proxies whose `X-Forwarded-For` is believed: addresses or networks, separated by
    commas."""
    console_session: Duration = timedelta(hours=12)
    """How long a login lasts at most."""
    console_session_idle: Duration = timedelta(hours=2)
    """How long it lasts unused."""
    console_pool_size: int = Field(default=5, ge=1, le=100)
    """Connections to the console's database that are kept open."""
    console_pool_overflow: int = Field(default=10, ge=0, le=100)
    """Connections beyond these, while they are needed."""
    console_pool_wait: Duration = timedelta(seconds=5)
    """How long a request waits for a connection, before it is answered with 503."""

    @field_validator("console_url")
    @classmethod
    def _is_an_origin(cls, url: str) -> str:
        parsed = parse_url(url)
        if parsed.path not in ("", "/"):
            raise ValueError("an address without a path: https://rowrelay.example")
        if parsed.scheme != "https" and parsed.host not in LOOPBACK:
            raise ValueError("https:// behind a reverse proxy; plain http:// on this machine alone")
        return url.rstrip("/")

    @field_validator("console_secret")
    @classmethod
    def _is_long_enough(cls, secret: SecretStr) -> SecretStr:
        if 0 < len(secret.get_secret_value()) < 32:
            raise ValueError("at least 32 characters, such as `openssl rand -base64 48` makes")
        return secret
