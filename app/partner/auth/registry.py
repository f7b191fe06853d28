"""Which object stands for a feed's `auth`: the file of this package that its `type` names."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from app.feeds.feed import Partner
from app.partner.auth.kind import AuthKind


def kind_of(partner: Partner) -> AuthKind[Any]:
    """The partner's way to authenticate."""
    kind: type[AuthKind[Any]] = import_module(f"app.partner.auth.{partner.auth.type}").Kind
    return kind(partner.auth, partner)
