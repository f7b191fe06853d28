"""The memory limit of this process's control group, as container runtimes set it.

    version 2   <mount>/<group>/memory.max                     a number of bytes, or `max`
    version 1   <mount>/memory/<group>/memory.limit_in_bytes   a number; near 2**63 it means no limit

Inside a container its own group is mounted as the root. Source: the kernel's documentation,
"Control Group v2" and "Memory Resource Controller" (cgroup-v1).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

_NO_LIMIT = 2**60
_MOUNTED = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


def memory_limit(mounted: Path = _MOUNTED, own_groups: Path = _OWN_GROUPS) -> int | None:
    """The lowest limit of this process's group and its ancestors, in bytes; `None` where there is
    none.
    """
    limits = [limit for file in _files(mounted, own_groups) if (limit := _read(file))]
    return min(limits, default=None)


def _files(mounted: Path, own_groups: Path) -> Iterator[Path]:
    lines: list[str] = []
    with suppress(OSError):
        lines = own_groups.read_text(encoding="utf-8").splitlines()
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        root, name = (
            (mounted / "memory", "memory.limit_in_bytes")
            if controllers
            else (mounted, "memory.max")
        )
        for above in (PurePosixPath(group), *PurePosixPath(group).parents):
            yield root / str(above).lstrip("/") / name


def _read(file: Path) -> int | None:
    with suppress(OSError, ValueError):
        limit = int(file.read_text(encoding="ascii"))
        return limit if 0 < limit < _NO_LIMIT else None
    return None
