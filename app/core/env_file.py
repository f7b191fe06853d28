"""Reads `.env`: names and literal values, with `${NAME}` replaced where that is meant.

A secret must not change silently between the file and the wire. So text in single quotes and
`$${…}` are literal, a `${NAME}` whose NAME is not set stays as it is, and every replacement is
reported.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from app.core.errors import Problem

FILE = ".env"
_REFERENCE = re.compile(r"\$(?P<escape>\$?)\{(?P<name>[^}:]*)(?::-(?P<default>[^}]*))?\}")
_LITERAL = re.compile(r"[^=]*=\s*'")
"""A line whose value is in single quotes."""


@dataclass(frozen=True, slots=True)
class EnvFile:
    """What a file holds."""

    values: Mapping[str, str]
    problems: tuple[Problem, ...] = ()
    """What could not be read. No problem shows a value."""
    warnings: tuple[Problem, ...] = ()
    """What may not be intended."""


def read_env_file(path: Path, environment: Mapping[str, str]) -> EnvFile:
    """Read the file, if there is one. `environment`: where else a `${NAME}` may be set; it takes
    precedence.
    """
    try:
        text = read_text(path)
    except FileNotFoundError:
        return EnvFile({})
    except (OSError, UnicodeDecodeError) as error:
        return EnvFile({}, (Problem(FILE, "the file", unreadable(error), "a readable UTF-8 file"),))
    return _read(text, environment)


def read_text(path: Path) -> str:
    """A file written by a person: UTF-8, with or without the byte order mark of Windows editors.

    Raises `OSError` and `UnicodeDecodeError`.
    """
    return path.read_text(encoding="utf-8-sig")


def unreadable(error: Exception) -> str:
    """Why a file could not be read, in a few words."""
    return getattr(error, "strerror", None) or "text that is not UTF-8"


def _read(text: str, environment: Mapping[str, str]) -> EnvFile:
    values: dict[str, str] = {}
    problems: list[Problem] = []
    warnings: list[Problem] = []
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            line = f"line {binding.original.line}"
            problems.append(
                Problem(
                    FILE, line, "something that is not NAME=value", "mend it, or begin it with #"
                )
            )
        elif binding.key and binding.value is None:
            said = f"write {binding.key}=value, or remove it"
            warnings.append(Problem(FILE, binding.key, "a name without a value", said))
        elif binding.key and binding.value is not None:
            value, changed = _expanded(binding, values | dict(environment))
            values[binding.key] = value
            warnings += [Problem(FILE, binding.key, found, allowed) for found, allowed in changed]
    return EnvFile(values, tuple(problems), tuple(warnings))


def _expanded(binding: Binding, known: Mapping[str, str]) -> tuple[str, list[tuple[str, str]]]:
    """The value, and what was replaced in it."""
    changed: list[tuple[str, str]] = []
    if _LITERAL.match(binding.original.string):
        return binding.value or "", changed

    def put(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        if match["escape"]:
            return match[0][1:]
        found = known.get(name, default or "")
        if name not in known and default is None:
            return match[0]
        what = f"the value of {name}" if name in known else "what stands after :-"
        where = f"${{{name}}}" if name in known or name.isidentifier() else "${…}"
        changed.append(
            (
                f"{where}, in whose place {what} was put",
                "if the text itself is meant, write $${ for ${",
            )
        )
        return found

    return _REFERENCE.sub(put, binding.value or ""), changed
