"""The configuration with everything checked that only an adapter knows: how partners are met, and the ledger's URL."""

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
