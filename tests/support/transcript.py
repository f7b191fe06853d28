"""A page of documentation that shows a terminal: its commands are typed into a shell, and what they
print is compared.

In a block that begins with ```console, `$ ` stands before a command, `> ` before each further line
of it, and the rest is what it printed on a terminal of 80 columns. A comment on the line before
says how a block is typed:

    <!-- until: PATTERN -->   its last command again and again, as a person would, until what it prints matches
    <!-- once: NAME -->       only where the run is asked for it
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from app.testbed.embedded.process import Process
from tests.support.wait import wait_until

COLUMNS = 80
COMMAND_SECONDS = 120.0
"""How long one command may take, on a machine that is busy with others."""
ONCE_SECONDS = 900.0
"""The same for what is typed only where that is asked for: to install may take minutes."""
UNTIL_SECONDS = 180.0
"""How long a command is typed again."""

_DONE = "\x1e"
_READ = r"""while read -r step; do . "$step" < /dev/null; printf '\036\n'; done < "$1" """
_FENCE, _END = "```console", "```"
_COMMENT = re.compile(r"<!-- (until|once): (.+) -->")


@dataclass(frozen=True, slots=True)
class Command:
    """A command as it is typed, its lines without prompts; and what it printed."""

    typed: str
    shown: str = ""

    def lines(self) -> Iterator[str]:
        """As the page has them."""
        first, *others = self.typed.split("\n")
        yield f"$ {first}"
        yield from (f"> {line}".rstrip() for line in others)
        if self.shown:
            yield from self.shown.split("\n")


@dataclass(frozen=True, slots=True)
class Block:
    """Commands one after the other, and how they are typed."""

    commands: tuple[Command, ...]
    until: str = ""
    once: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Prose, line by line, and blocks in their places."""

    parts: tuple[str | Block, ...]

    @classmethod
    def read(cls, text: str) -> Self:
        """Raises `ValueError` for a block that is not ended, or does not begin with a command."""
        parts: list[str | Block] = []
        lines = iter(text.split("\n"))
        for line in lines:
            parts.append(line)
            if line == _FENCE:
                comment = _COMMENT.fullmatch(str(parts[-2])) if len(parts) > 1 else None
                how = {comment[1]: comment[2]} if comment else {}
                parts += [Block(tuple(_commands(_to_the_end(lines))), **how), _END]
        return cls(tuple(parts))

    def __str__(self) -> str:
        lines: list[str] = []
        for part in self.parts:
            lines += (
                [part]
                if isinstance(part, str)
                else [line for one in part.commands for line in one.lines()]
            )
        return "\n".join(lines)

    @property
    def commands(self) -> list[Command]:
        """All of them, in order."""
        return [
            command for part in self.parts if isinstance(part, Block) for command in part.commands
        ]

    def typed(self, type_block: Callable[[Block], Block]) -> Page:
        """The page with each block as that leaves it."""
        return Page(
            tuple(part if isinstance(part, str) else type_block(part) for part in self.parts)
        )


def _to_the_end(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if line == _END:
            return
        yield line
    raise ValueError("a block is not ended")


def _commands(lines: Iterable[str]) -> Iterator[Command]:
    command: Command | None = None
    for line in lines:
        if line.startswith("$ "):
            if command:
                yield command
            command = Command(line[2:])
        elif command is None:
            raise ValueError(f"{line!r}: a block begins with a command")
        elif not command.shown and (line == ">" or line.startswith("> ")):
            command = replace(command, typed=f"{command.typed}\n{line[2:]}")
        else:
            command = replace(command, shown=f"{command.shown}\n{line}" if command.shown else line)
    if command:
        yield command


class Shell:
    """One shell that commands are typed into, and whose background jobs end with it; a context
    manager.

    `directory`: where it keeps what it needs; `home`: where it begins; `stand_ins`: what the page
    says → what that is here, both ways: ports, paths, names of this machine.
    """

    def __init__(
        self,
        directory: Path,
        home: Path,
        environment: Mapping[str, str],
        stand_ins: Mapping[str, str],
    ) -> None:
        self._stand_ins = dict(sorted(stand_ins.items(), key=lambda pair: -len(pair[1])))
        self._step, self._steps, self._log = (
            directory / "step",
            directory / "steps",
            directory / "shell.log",
        )
        environment = {**environment, "COLUMNS": str(COLUMNS)}
        argv = ["bash", "--noprofile", "--norc", "-c", _READ, "bash", str(self._steps)]
        self._process = Process("shell", argv, env=environment, cwd=home, log=self._log)

    def __enter__(self) -> Self:
        os.mkfifo(self._steps)
        self._process.start()
        self._typing = self._steps.open("w", encoding="utf-8")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._typing.close()

    def type(self, command: str, patience: float = COMMAND_SECONDS) -> str:
        """Type a command of the page, and return what it prints, as the page would say it;
        `patience`: in seconds.
        """
        here = command
        for said, stands_for in self._stand_ins.items():
            here = here.replace(said, stands_for)
        self._step.write_text(f"{here}\n", encoding="utf-8")
        begin = self._log.stat().st_size
        self._typing.write(f"{self._step}\n")
        self._typing.flush()
        printed = wait_until(
            lambda: self._printed(begin), timeout=patience, message=f"the end of: {command}"
        )
        return self._as_on_the_page(str(printed).removesuffix(f"{_DONE}\n"))

    def _printed(self, begin: int) -> str:
        """What it has printed since then, with what ends it; empty before that."""
        assert self._process.alive, self._process.failure()
        printed = self._log.read_bytes()[begin:].decode("utf-8", "replace")
        return printed if printed.endswith(f"{_DONE}\n") else ""

    def _as_on_the_page(self, printed: str) -> str:
        for said, stands_for in self._stand_ins.items():
            here = re.compile(rf"(?<![\w-]){re.escape(stands_for)}(?!\w)")
            printed = said.join(here.split(printed))
        return "\n".join(
            part for line in printed.rstrip().split("\n") for part in _folded(line.rstrip())
        )

    def type_block(self, block: Block) -> Block:
        """Type its commands, the last one until it prints what is waited for."""
        *first, last = block.commands
        patience = ONCE_SECONDS if block.once else COMMAND_SECONDS
        done = [replace(command, shown=self.type(command.typed, patience)) for command in first]
        printed = wait_until(
            lambda: self._said(last, block.until), timeout=UNTIL_SECONDS, message=repr(block.until)
        )
        return replace(block, commands=(*done, replace(last, shown=printed[0])))

    def _said(self, command: Command, until: str) -> list[str]:
        printed = self.type(command.typed)
        return [printed] if re.search(until, unfolded(printed), re.DOTALL) else []


def _folded(line: str) -> list[str]:
    """As a terminal of that width shows it."""
    return [
        line[begin : begin + COLUMNS].rstrip() for begin in range(0, max(1, len(line)), COLUMNS)
    ]


def unfolded(text: str) -> str:
    """Lines as they were printed: one that fills the terminal goes on in the next."""
    lines = text.split("\n")
    ends = ["" if len(line) == COLUMNS else "\n" for line in lines]
    return "".join(line + end for line, end in zip(lines, ends, strict=True)).rstrip("\n")


def difference(page: Command, here: Command, varies: Sequence[tuple[str, str]]) -> str:
    """Where what was printed is not what the page shows, but for what varies; empty: nowhere.

    `varies`: regular expressions, and what they stand for in both. How many blanks there are is no
    difference: a column is as wide as what stands in it.
    """
    shown, printed = (_alike(command.shown, varies) for command in (page, here))
    if "".join("".join(shown).split()) == "".join("".join(printed).split()):
        return ""
    lines = difflib.unified_diff(shown, printed, "the page", "here", lineterm="", n=20)
    return "\n".join([f"$ {page.typed}", *lines])


def _alike(text: str, varies: Sequence[tuple[str, str]]) -> list[str]:
    text = unfolded(text)
    for pattern, stands in varies:
        text = re.sub(pattern, stands, text, flags=re.MULTILINE)
    return [" ".join(line.split()) for line in text.split("\n")]
