"""Names as people write them: in other letter case, or misspelt."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_ALIKE = 0.8
"""From 0 to 1. SWEEP_EVRY and SWEEP_EVERY: 0.95; MONGO_URI and MONGO_URL: 0.89; MSSQL_PID and
MSSQL_PORT: 0.74.
"""


def alike(name: str, known: Iterable[str]) -> list[str]:
    """The known names that are written the same; where none is, those that differ in letter case
    alone.
    """
    names = list(known)
    return [name] if name in names else [one for one in names if one.casefold() == name.casefold()]


def likely(name: str, known: Iterable[str]) -> str | None:
    """The most similar known name, ignoring case, dashes and a prefix `ROWRELAY_`; `None`: none is
    similar enough.
    """
    by_form = {_form(one): one for one in known}
    form = _form(name)
    if form.removeprefix("rowrelay_") in by_form:
        return by_form[form.removeprefix("rowrelay_")]
    found = difflib.get_close_matches(form, by_form, n=1, cutoff=_ALIKE)
    return by_form[found[0]] if found else None


def _form(name: str) -> str:
    return name.casefold().replace("-", "_")
