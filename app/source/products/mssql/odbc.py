"""Finding an ODBC driver for SQL Server. Nothing is loaded at import.

Looked for in this order; the first one found is used:

1. the one that the URL names: `?driver=ODBC+Driver+18+for+SQL+Server`, or the path of a library;
2. an installed Microsoft ODBC Driver 18 or 17;
3. Microsoft's driver 18 inside the Python package `mssql-python-odbc`, given by path;
4. an installed FreeTDS.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

from app.core.errors import ConfigError, Problem

PACKAGE = "mssql-python-odbc"
MICROSOFT = ("ODBC Driver 18 for SQL Server", "ODBC Driver 17 for SQL Server")
FREETDS = "FreeTDS"

_FREETDS_LIBRARIES = (
    *Path("/usr/lib").glob("*/odbc/libtdsodbc.so"),
    Path("/usr/lib64/libtdsodbc.so.0"),
    Path("/usr/lib/libtdsodbc.so.0"),
    Path("/usr/local/lib/libtdsodbc.so"),
    Path("/opt/homebrew/lib/libtdsodbc.so"),
)
"""Where packages put FreeTDS's driver; Debian's registers it by itself, others leave that to the
administrator.
"""
_FAMILIES = {"alpine": "alpine", "rhel": "rhel", "fedora": "rhel", "suse": "suse"}
"""By `ID` and `ID_LIKE` of os-release, the folder of the package whose build suits; any other:
Debian's.
"""
_ARCHITECTURES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}

WAYS = (
    f"do one of: (1) pip install {PACKAGE} (Microsoft's driver as a Python package); (2) install Microsoft's "
    "'ODBC Driver 18 for SQL Server' from its package repository; (3) install FreeTDS (Debian, Ubuntu: tdsodbc). "
    "A driver elsewhere is named in SOURCE_URL: ?driver=<name or path>"
)


@dataclass(frozen=True, slots=True)
class OdbcDriver:
    """An ODBC driver that a connection string can name."""

    name: str
    """As the driver manager knows it, or the path of its library."""
    origin: str
    """Where it was found, for an operator."""

    @property
    def freetds(self) -> bool:
        """Whether it is FreeTDS, whose keywords differ from Microsoft's."""
        return "freetds" in self.name.lower() or "tdsodbc" in self.name.lower()

    @property
    def microsoft(self) -> bool:
        """Whether it is Microsoft's."""
        return "msodbcsql" in self.name.lower() or self.name in MICROSOFT


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine has: asked for one by one, each at most once, and only when it is needed."""

    installed: Callable[[], Sequence[str]]
    """Names of the drivers that the driver manager knows. Raises `ImportError` where there is no
    driver manager.
    """
    packaged: Callable[[], Iterable[Path]]
    """The libraries inside the Python package, the most suitable first."""
    freetds: Callable[[], Iterable[Path]]
    loads: Callable[[Path], str | None]
    """`None` where the library can be loaded, else why not."""


def find_driver(named: str | None, machine: Machine | None = None) -> OdbcDriver:
    """The driver to connect with. `named`: the `driver` of the URL, if it has one.

    Raises `ConfigError`: no driver manager, a named driver that does not exist, or no driver at
    all. The message says what was looked at, and the ways to get one.
    """
    machine = machine or THIS_MACHINE
    try:
        installed = machine.installed()
    except ImportError as error:
        raise _no_driver_manager(error) from error
    if named:
        return _named(named, installed, machine)
    broken: list[str] = []
    for found in _candidates(installed, machine):
        reason = machine.loads(Path(found.name)) if "/" in found.name else None
        if reason is None:
            return found
        broken.append(f"{found.origin}: {reason}")
    looked = "; ".join([f"drivers installed: {', '.join(installed) or 'none'}", *broken])
    raise ConfigError(
        [Problem("environment", "SOURCE_URL", f"no ODBC driver for SQL Server ({looked})", WAYS)]
    )


def load_pyodbc() -> Any:
    """The module `pyodbc`, with the driver manager's own pool off: it would hand back connections
    in any state.

    Raises `ImportError` where unixODBC is missing, which pyodbc is linked against.
    """
    import pyodbc  # noqa: PLC0415 - needs a system library that only feeds from SQL Server require

    pyodbc.pooling = False
    return pyodbc


def driver_of(connection: Any) -> str:
    """Name and version of the driver behind an open connection, as it calls itself."""
    pyodbc = load_pyodbc()
    name, version = (
        connection.raw.getinfo(key) for key in (pyodbc.SQL_DRIVER_NAME, pyodbc.SQL_DRIVER_VER)
    )
    return f"{name} {version}"


def _named(named: str, installed: Sequence[str], machine: Machine) -> OdbcDriver:
    if "/" in named:
        reason = machine.loads(Path(named))
        found = None if reason is None else f"driver={named}, which cannot be loaded: {reason}"
    else:
        known = named.casefold() in (name.casefold() for name in installed)
        found = (
            None
            if known
            else f"driver={named}; drivers installed: {', '.join(installed) or 'none'}"
        )
    if found is not None:
        raise ConfigError([Problem("environment", "SOURCE_URL", found, WAYS)])
    return OdbcDriver(named, "named in SOURCE_URL")


def _candidates(installed: Sequence[str], machine: Machine) -> Iterable[OdbcDriver]:
    yield from (OdbcDriver(name, "installed") for name in MICROSOFT if name in installed)
    yield from (OdbcDriver(str(path), f"Python package {PACKAGE}") for path in machine.packaged())
    yield from (
        OdbcDriver(name, "installed") for name in installed if name.casefold() == FREETDS.casefold()
    )
    yield from (OdbcDriver(str(path), "FreeTDS's library") for path in machine.freetds())


def _no_driver_manager(error: ImportError) -> ConfigError:
    return ConfigError([
        Problem(
            "environment",
            "SOURCE_URL",
            f"an SQL Server, but pyodbc cannot be loaded: {error}",
            "install the ODBC driver manager, a system package that pip does not have: "
            "apt-get install unixodbc (Debian, Ubuntu), dnf install unixODBC (RHEL), brew install unixodbc (macOS)",
        )
    ])  # fmt: skip


def _packaged_libraries() -> Iterable[Path]:
    """The package's libraries for this processor; the build for this kind of system first."""
    try:
        found = [
            Path(str(entry.locate()))
            for entry in files(PACKAGE) or ()
            if "libmsodbcsql" in entry.name
        ]
    except PackageNotFoundError:
        return []
    processor = _ARCHITECTURES.get(platform.machine().lower(), "")
    fitting = [path for path in found if processor in path.parts]
    return sorted(fitting, key=lambda path: (_family() not in path.parts, path))


def _family() -> str:
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        return "macos" if platform.system() == "Darwin" else "debian_ubuntu"
    names = [system.get("ID", ""), *system.get("ID_LIKE", "").split()]
    return next((_FAMILIES[name] for name in names if name in _FAMILIES), "debian_ubuntu")


def _why_not_loaded(path: Path) -> str | None:
    try:
        ctypes.CDLL(str(path))
    except OSError as error:
        return str(error)
    return None


THIS_MACHINE = Machine(
    installed=lambda: load_pyodbc().drivers(),
    packaged=_packaged_libraries,
    freetds=lambda: [path for path in _FREETDS_LIBRARIES if path.exists()],
    loads=_why_not_loaded,
)
