"""The console's tables. Nothing of the ledger is kept here.

Relations are loaded where a query says so; reading one that was not loaded is an error.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, String, Unicode, UnicodeText
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.console.store.base import ID, NAME, Base, new_id

HASH = String(64)
"""SHA-256 in hexadecimal."""


class User(Base):
    """Somebody who may log in."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(ID, primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(NAME, unique=True)
    """As they log in; lower case."""
    display_name: Mapped[str] = mapped_column(NAME)
    email: Mapped[str | None] = mapped_column(Unicode(320), default=None)
    role: Mapped[str] = mapped_column(String(20))
    password_hash: Mapped[str | None] = mapped_column(String(300), default=None)
    """`None` until the one-time link was used."""
    language: Mapped[str] = mapped_column(String(10), default="en")
    time_zone: Mapped[str] = mapped_column(String(64), default="UTC")
    theme: Mapped[str] = mapped_column(String(10), default="system")
    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None] = mapped_column(default=None)
    last_login_at: Mapped[datetime | None] = mapped_column(default=None)
    version: Mapped[int] = mapped_column(Integer, default=1)

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy reads it once


class OneTimeLink(Base):
    """A link with which a user sets a password, once."""

    __tablename__ = "one_time_links"

    token_hash: Mapped[str] = mapped_column(HASH, primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None] = mapped_column(default=None)

    user: Mapped[User] = relationship(lazy="raise")


class Session(Base):
    """A browser that is logged in. Its cookie is kept as a hash."""

    __tablename__ = "sessions"

    id: Mapped[str] = mapped_column(ID, primary_key=True, default=new_id)
    token_hash: Mapped[str] = mapped_column(HASH, unique=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    ended_at: Mapped[datetime | None] = mapped_column(default=None)
    address: Mapped[str] = mapped_column(String(64))
    user_agent: Mapped[str] = mapped_column(Unicode(300))

    user: Mapped[User] = relationship(lazy="raise")


class RefreshToken(Base):
    """One of a family of refresh tokens: each is used once, and gives the next."""

    __tablename__ = "refresh_tokens"

    token_hash: Mapped[str] = mapped_column(HASH, primary_key=True)
    family: Mapped[str] = mapped_column(ID, index=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    jti: Mapped[str] = mapped_column(ID)
    """Of the access token that was issued with it."""
    access_expires_at: Mapped[datetime]
    begun_at: Mapped[datetime]
    """When the family's login was."""
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    used_at: Mapped[datetime | None] = mapped_column(default=None)
    ended_at: Mapped[datetime | None] = mapped_column(default=None)
    """When its family was ended."""
    address: Mapped[str] = mapped_column(String(64))
    user_agent: Mapped[str] = mapped_column(Unicode(300))

    user: Mapped[User] = relationship(lazy="raise")


class RevokedToken(Base):
    """An access token that is refused before it expires."""

    __tablename__ = "revoked_tokens"

    jti: Mapped[str] = mapped_column(ID, primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(index=True)
    revoked_at: Mapped[datetime]


class ApiKey(Base):
    """A machine's key. The key itself is shown once, and kept as a hash."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(ID, primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(NAME)
    prefix: Mapped[str] = mapped_column(String(16))
    key_hash: Mapped[str] = mapped_column(HASH, unique=True)
    role: Mapped[str] = mapped_column(String(20))
    owner_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None] = mapped_column(default=None)
    last_used_at: Mapped[datetime | None] = mapped_column(default=None)
    revoked_at: Mapped[datetime | None] = mapped_column(default=None)

    owner: Mapped[User] = relationship(lazy="raise")


class Origin(Base):
    """An origin whose pages may call the API from a browser."""

    __tablename__ = "origins"

    id: Mapped[str] = mapped_column(ID, primary_key=True, default=new_id)
    origin: Mapped[str] = mapped_column(String(300), unique=True)
    """`https://host` or `https://host:port`, as a browser sends it."""
    note: Mapped[str] = mapped_column(Unicode(300), default="")
    enabled: Mapped[bool] = mapped_column(Boolean, default=True)
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(NAME)
    version: Mapped[int] = mapped_column(Integer, default=1)

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - as above


class AuditHead(Base):
    """The one row that all writers of the audit log wait for: where the chain stands."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[str] = mapped_column(HASH)


class AuditEntry(Base):
    """One thing that somebody did. Never changed, never deleted."""

    __tablename__ = "audit_entries"

    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    """From 1, without gaps."""
    at: Mapped[datetime] = mapped_column(index=True)
    who: Mapped[str] = mapped_column(NAME)
    """The user's name, or `user@host` of a command."""
    means: Mapped[str] = mapped_column(String(20))
    """`session`, `token`, `api key` or `command`."""
    address: Mapped[str] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(60))
    """`user.created`, `delivery.replayed`, …"""
    subject: Mapped[str] = mapped_column(Unicode(600))
    why: Mapped[str | None] = mapped_column(UnicodeText, default=None)
    before: Mapped[str | None] = mapped_column(UnicodeText, default=None)
    """JSON."""
    after: Mapped[str | None] = mapped_column(UnicodeText, default=None)
    """JSON."""
    previous_hash: Mapped[str] = mapped_column(HASH)
    hash: Mapped[str] = mapped_column(HASH)

    __table_args__ = (
        Index("ix_audit_entries_action", "action", "number"),
        Index("ix_audit_entries_who", "who", "number"),
    )


class NotificationSettings(Base):
    """What a user is told of, and how."""

    __tablename__ = "notification_settings"

    user_id: Mapped[str] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    enabled: Mapped[bool] = mapped_column(Boolean, default=False)
    channel: Mapped[str] = mapped_column(String(10), default="mail")
    """`mail` or `webhook`."""
    webhook_url: Mapped[str | None] = mapped_column(Unicode(2000), default=None)
    """Sealed (`security/sealing.py`)."""
    webhook_format: Mapped[str] = mapped_column(String(10), default="json")
    events: Mapped[str] = mapped_column(UnicodeText, default="[]")
    """JSON: the kinds of event."""
    feeds: Mapped[str] = mapped_column(UnicodeText, default="[]")
    """JSON: of these feeds alone; an empty list: of all."""
    dead_above: Mapped[int] = mapped_column(Integer, default=0)
    oldest_above_seconds: Mapped[int] = mapped_column(Integer, default=3600)
    remind_seconds: Mapped[int] = mapped_column(Integer, default=14400)
    quiet_from: Mapped[str | None] = mapped_column(String(5), default=None)
    """`22:00`, in the user's time zone."""
    quiet_until: Mapped[str | None] = mapped_column(String(5), default=None)
    version: Mapped[int] = mapped_column(Integer, default=1)

    user: Mapped[User] = relationship(lazy="raise")

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - as above


class NotificationSent(Base):
    """What a user is told of one event that is on, or was: the latest message, and how it goes out."""

    __tablename__ = "notifications_sent"

    user_id: Mapped[str] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    event_id: Mapped[str] = mapped_column(Unicode(300), primary_key=True)
    """`<event>|<subject>`."""
    event: Mapped[str] = mapped_column(String(40))
    subject: Mapped[str] = mapped_column(Unicode(300))
    said: Mapped[str] = mapped_column(UnicodeText)
    began_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    over_at: Mapped[datetime | None] = mapped_column(default=None)
    message: Mapped[str] = mapped_column(String(10))
    """`began`, `reminder` or `over`."""
    number: Mapped[int] = mapped_column(Integer)
    """Counts the messages about it."""
    message_at: Mapped[datetime]
    """Since when the message is owed."""
    told_at: Mapped[datetime | None] = mapped_column(default=None)
    """When a message was last taken."""
    retry_at: Mapped[datetime | None] = mapped_column(index=True, default=None)
    """When to try next; `None`: nothing is owed."""
    tries: Mapped[int] = mapped_column(Integer, default=0)
    error: Mapped[str | None] = mapped_column(Unicode(500), default=None)
    """Why the message was not taken the last time."""


class Feedback(Base):
    """A note that somebody left on a delivery or a feed."""

    __tablename__ = "feedback"

    id: Mapped[str] = mapped_column(ID, primary_key=True, default=new_id)
    subject_kind: Mapped[str] = mapped_column(String(10))
    """`delivery` or `feed`."""
    subject_id: Mapped[str] = mapped_column(UnicodeText)
    """The delivery's stored id, or the feed's name."""
    subject_hash: Mapped[str] = mapped_column(HASH)
    """Of the two, for the index: an id may be longer than an index takes."""
    text: Mapped[str] = mapped_column(UnicodeText)
    author_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime]
    resolved_at: Mapped[datetime | None] = mapped_column(default=None)
    resolved_by: Mapped[str | None] = mapped_column(NAME, default=None)

    author: Mapped[User] = relationship(lazy="raise")

    __table_args__ = (
        Index("ix_feedback_subject", "subject_hash", "created_at"),
        Index("ix_feedback_open", "resolved_at", "created_at"),
    )


class IdempotentRequest(Base):
    """A POST that came with an `Idempotency-Key`, and what it was answered."""

    __tablename__ = "idempotent_requests"

    key_hash: Mapped[str] = mapped_column(HASH, primary_key=True)
    """Of who asked, the path, and the key."""
    request_hash: Mapped[str] = mapped_column(HASH)
    created_at: Mapped[datetime] = mapped_column(index=True)
    status: Mapped[int | None] = mapped_column(Integer, default=None)
    """`None` while it is under way."""
    headers: Mapped[str | None] = mapped_column(UnicodeText, default=None)
    """JSON: those of the answer that say something of it."""
    body: Mapped[str | None] = mapped_column(UnicodeText, default=None)
    """`None` where the answer showed a secret, which is kept nowhere."""
