"""Names of settings that are likely misspelt: in the environment, which others use too, and in our
own `.env`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from app.core.errors import Problem
from app.core.spelling import likely

_OF_OTHERS = re.compile(
    r"ACCEPT_EULA|ROWRELAY_(VERSION|CONFIG)|(FLOWER|METRICS|GRAFANA|CONSOLE_PUBLISHED)_PORT|DEMO_(FAULTS|RATE)|MSSQL_(PID|SA_PASSWORD)"
    r"|(CELERY|COMPOSE|DOCKER|FLOWER|OTEL|PYTHON|SSL_CERT|TEST)_.*|.*_PROXY|TZ|PATH|LANG|LC_.*",
    re.IGNORECASE,
)
"""Names that are no settings of ours, and have a place in the same file: of docker compose, Celery,
OpenTelemetry, …
"""


def misspelt(
    ours: Collection[str], environment: Collection[str], known: Collection[str], *, all_known: bool
) -> Iterator[Problem]:
    """Names that are no setting and look like one; in `.env` also those that look like none.

    `ours`: the names in `.env`; `environment`: those in the environment; `known`: those that stand
    for something. `all_known`: whether these are all; where not, a name that looks like no setting
    may be one.
    """
    for name in sorted({*ours, *environment}):
        if name.upper() in known or name in known or _OF_OTHERS.fullmatch(name):
            continue
        meant = likely(name, known)
        if meant or (all_known and name not in environment):
            said = (
                f"{meant} was likely meant"
                if meant
                else "remove it, or mend it (.env.example has them all)"
            )
            where = "environment" if name in environment else ".env"
            yield Problem(where, name, "a name that is no setting, and counts for nothing", said)
