"""The ODBC driver is looked for in one order, and its absence is told with the ways to get one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from app.core.errors import ConfigError
from app.source.products.mssql.odbc import Machine, find_driver

PACKAGED = Path("/packages/libmsodbcsql-18.6.so.2.1")
FREETDS = Path("/usr/lib/odbc/libtdsodbc.so")
EIGHTEEN, SEVENTEEN = "ODBC Driver 18 for SQL Server", "ODBC Driver 17 for SQL Server"


def _machine(
    installed: Sequence[str] = (),
    packaged: Sequence[Path] = (),
    freetds: Sequence[Path] = (),
    broken: Sequence[Path] = (),
) -> Machine:
    return Machine(
        installed=lambda: installed,
        packaged=lambda: packaged,
        freetds=lambda: freetds,
        loads=lambda path: "libkrb5.so.3: cannot open" if path in broken else None,
    )


@pytest.mark.parametrize(
    ("named", "machine", "expected"),
    [
        ("FreeTDS", _machine([EIGHTEEN, "FreeTDS"], [PACKAGED]), "FreeTDS"),
        ("freetds", _machine([EIGHTEEN, "FreeTDS"], [PACKAGED]), "freetds"),
        (str(FREETDS), _machine([EIGHTEEN]), str(FREETDS)),
        (None, _machine([SEVENTEEN, EIGHTEEN, "FreeTDS"], [PACKAGED]), EIGHTEEN),
        (None, _machine([SEVENTEEN, "FreeTDS"], [PACKAGED]), SEVENTEEN),
        (None, _machine(["PostgreSQL Unicode", "FreeTDS"], [PACKAGED], [FREETDS]), str(PACKAGED)),
        (None, _machine(["FreeTDS"], [PACKAGED], [FREETDS], broken=[PACKAGED]), "FreeTDS"),
        (None, _machine([], [], [FREETDS]), str(FREETDS)),
    ],
)
def test_the_first_driver_in_order_is_used(
    named: str | None, machine: Machine, expected: str
) -> None:
    assert find_driver(named, machine).name == expected


def test_freetds_and_microsoft_are_told_apart_by_name_and_by_path() -> None:
    found = [
        find_driver(name, _machine(["FreeTDS", EIGHTEEN]))
        for name in ("FreeTDS", str(FREETDS), EIGHTEEN)
    ]
    assert [(driver.freetds, driver.microsoft) for driver in found] == [
        (True, False),
        (True, False),
        (False, True),
    ]
    packaged = find_driver(None, _machine([], [PACKAGED]))
    assert (packaged.freetds, packaged.microsoft) == (False, True)


def test_without_any_driver_the_three_ways_to_get_one_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        find_driver(None, _machine(["SQLite3"], [PACKAGED], broken=[PACKAGED]))
    message = str(caught.value)
    for part in (
        "pip install mssql-python-odbc",
        "ODBC Driver 18 for SQL Server",
        "tdsodbc",
        "SQLite3",
        "libkrb5",
    ):
        assert part in message


@pytest.mark.parametrize("named", ["Oracle", "/nowhere/driver.so"])
def test_a_driver_that_is_named_and_missing_is_no_reason_to_take_another(named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        find_driver(named, _machine([EIGHTEEN], [PACKAGED], broken=[Path(named)]))


def test_a_missing_driver_manager_is_one_clear_message() -> None:
    def installed() -> Sequence[str]:
        raise ImportError("libodbc.so.2: cannot open shared object file")

    machine = _machine()
    with pytest.raises(ConfigError, match=r"libodbc\.so\.2.*apt-get install unixodbc"):
        find_driver(None, Machine(installed, machine.packaged, machine.freetds, machine.loads))
