"""What a ledger's server reads to answer: each command is explained, with its execution, just
before it is sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo.monitoring import CommandListener, CommandStartedEvent
from pymongo.synchronous.database import Database

from app.ledger.client import Document

SLACK = 10
"""Documents and keys that are too few to matter: where a scan ends, and where it steps from one
feed to the next.
"""
_READING = ("find", "aggregate", "count", "distinct", "findAndModify")
_WRITING = {"update": "updates", "delete": "deletes"}
_BOUNDS: CodecOptions[Document] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_AUTO)
"""A plan's bounds reach to moments that Python has no datetime for."""
_NOT_EXPLAINED = ("lsid", "txnNumber", "readConcern", "writeConcern", "ordered")


@dataclass(frozen=True, slots=True)
class Plan:
    """One command, and what it made the server read."""

    command: Document
    stages: frozenset[str]
    documents: int
    """Examined."""
    keys: int
    """Of indexes, examined."""
    answered: int
    """Documents returned, updated or deleted."""

    @property
    def collection(self) -> str:
        return str(next(iter(self.command.values())))

    @property
    def named(self) -> int:
        """Documents that the command names by id, whether they are there or not."""
        return _named(self.command)

    @property
    def of_one_moment(self) -> bool:
        """Whether it asks for documents of one moment, in the order of their ids."""
        wanted = self.command.get("filter", {})
        alike = any(
            isinstance(wanted.get(field), datetime)
            for field in ("finished_at", "created_at", "next_attempt_at")
        )
        return alike and list(self.command.get("sort", ())) == ["_id"]

    def faults(self, within: int, *, sorts_ties: bool = False) -> Iterator[str]:
        """What is wrong with it, where it may read `within` documents beside what it answers with
        and names, and sort where it asks for one moment."""
        allowed = self.answered + self.named + within + SLACK
        if self.documents > allowed:
            yield f"examines {self.documents} documents, and answers with {self.answered}"
        if self.keys > allowed + self.named:
            yield f"examines {self.keys} keys, and answers with {self.answered}"
        if self.stages & {"SORT", "SORT_KEY_GENERATOR"} and not (sorts_ties and self.of_one_moment):
            yield "sorts in memory"
        if "COLLSCAN" in self.stages:
            yield "reads the collection"


class Explained(CommandListener):
    """Has each command explained before it is sent. `database` is asked over a client that nobody
    listens to.
    """

    def __init__(self, database: Database[Document]) -> None:
        self.plans: list[Plan] = []
        self.errors: list[Exception] = []
        """What kept a command from being explained: the driver keeps what a listener raises to
        itself.
        """
        self._database = database

    def taken(self) -> list[Plan]:
        """The plans since this was asked last. Raises what kept a command from being explained."""
        for error in self.errors:
            raise error
        taken, self.plans = self.plans, []
        return taken

    def started(self, event: CommandStartedEvent) -> None:
        try:
            for command in _questions(event.command_name, event.command):
                explain = {"explain": command, "verbosity": "executionStats"}
                found = self._database.command(explain, codec_options=_BOUNDS)
                self.plans.append(_plan(command, found))
        except Exception as error:  # noqa: BLE001  a test looks at them
            self.errors.append(error)

    def succeeded(self, event: object) -> None:
        del event

    def failed(self, event: object) -> None:
        del event


def _questions(name: str, sent: Mapping[str, Any]) -> Iterator[Document]:
    """The command as `explain` takes it: one statement at a time. None for what asks nothing."""
    plain = {
        key: value
        for key, value in sent.items()
        if not key.startswith("$") and key not in _NOT_EXPLAINED
    }
    if name in _READING:
        yield plain
    for statement in plain.get(_WRITING.get(name, ""), ()):
        yield {name: plain[name], _WRITING[name]: [statement]}


def _plan(command: Document, explained: Document) -> Plan:
    found = explained if "executionStats" in explained else explained["stages"][0]["$cursor"]
    ran = found["executionStats"]
    changed = max(_deep(ran["executionStages"], name) for name in ("nMatched", "nWouldDelete"))
    return Plan(
        command,
        frozenset(_stages(found["queryPlanner"]["winningPlan"])),
        documents=ran["totalDocsExamined"],
        keys=ran["totalKeysExamined"],
        answered=max(ran["nReturned"], changed),
    )


def _deep(stage: Any, name: str) -> int:
    """The greatest number of that name, wherever it is."""
    if isinstance(stage, list):
        return max((_deep(item, name) for item in stage), default=0)
    if not isinstance(stage, dict):
        return 0
    return max([int(stage.get(name, 0)), *(_deep(value, name) for value in stage.values())])


def _stages(plan: Any) -> Iterator[str]:
    if isinstance(plan, list):
        for item in plan:
            yield from _stages(item)
    if isinstance(plan, dict):
        if "stage" in plan:
            yield str(plan["stage"])
        for name, value in plan.items():
            if name != "slotBasedPlan":
                yield from _stages(value)


def _named(condition: Any) -> int:
    if isinstance(condition, list):
        return sum(map(_named, condition))
    if not isinstance(condition, dict):
        return 0
    wanted = condition.get("_id")
    if isinstance(wanted, dict) and "$in" in wanted:
        return len(wanted["$in"])
    if isinstance(wanted, str):
        return 1
    return sum(
        _named(value) for name, value in condition.items() if name not in ("u", "update", "$group")
    )
