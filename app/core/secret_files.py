"""Secrets in files: `NAME_FILE` names one that holds the value of `NAME`, as Docker and Kubernetes
hand them out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from app.core.env_file import read_text, unreadable
from app.core.errors import Problem

FILE_SUFFIX = "_FILE"


def read_secret_files(
    names: Iterable[str], environment: Mapping[str, str], directory: Path
) -> tuple[dict[str, str], list[Problem]]:
    """The values that come from files, without the trailing newline that editors add. Relative
    paths start at `directory`."""
    values: dict[str, str] = {}
    problems: list[Problem] = []
    for name in names:
        variable = name + FILE_SUFFIX
        path = environment.get(variable)
        if not path:
            continue
        if environment.get(name):
            problems.append(
                Problem("environment", variable, f"{name} too", f"set either {name} or {variable}")
            )
            continue
        try:
            values[name] = read_text(directory / path).rstrip("\r\n")
        except (OSError, UnicodeDecodeError, ValueError) as error:
            why = f"{path!r}: {unreadable(error)}"
            problems.append(Problem("environment", variable, why, "a readable UTF-8 file"))
            continue
        if not values[name]:
            problems.append(
                Problem("environment", variable, f"{path!r}: empty", "a file that holds the value")
            )
    return values, problems
