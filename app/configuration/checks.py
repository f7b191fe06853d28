"""Loads the configuration with every check, including those that only an adapter can make."""

from __future__ import annotations

import config
from app.ledger.url import url_problems
from app.partner.problems import problems

CHECKS = config.Checks(feed=problems, mongo_url=url_problems)


def load() -> config.Config:
    """See `config.load`."""
    return config.load(CHECKS)


def load_partly() -> config.Partly:
    """See `config.load_partly`."""
    return config.load_partly(CHECKS)
