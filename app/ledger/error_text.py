"""What a driver's error says, on one line for an operator: no raw document of the server, nothing
of the driver's own.

PyMongo ends a server's error with the whole answer ("full error: {…}": `$clusterTime`, its
signature, the write that failed with the row in it), and a server quotes the command that it
refuses, with the same in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from pymongo import errors as driver

from app.core.shown import one_line
from app.ledger.error_codes import name_of

LIMIT = 300
"""Characters."""

_FULL_ERROR = ", full error: "
_DRIVER_INTERNALS = re.compile(
    r" \(configured timeouts: [^)]*\)|, Timeout: [0-9.]+s, Topology Description: .*"
)
"""What the driver adds to "cannot connect", and an operator cannot use."""
_RAW = re.compile(
    r"\$clusterTime|\$db\b|\blsid\b|\boperationTime\b|\bsignature\b|\btxnNumber\b|\bdocuments: \["
)
"""What identifies a document of a server's or the driver's own, not one that an operator wrote."""
_COMMAND = re.compile(r"\{ *(\w+):")
_RETRY_AFTER = re.compile(r"Error=\d+, RetryAfterMs=(\d{1,9})\b")
"""How Azure Cosmos DB begins what it says of a command, or of a write of many, that was one too
many (16500, HTTP 429): "Error=16500, RetryAfterMs=34, Details='Response status code does not
indicate success: TooManyRequests (429) …'"."""
_SELECTION = (
    (
        re.compile(
            r'No replica set members match selector "Primary\(\)"|No primary available for writes'
        ),
        "no member of the replica set is primary now",
    ),
    (
        re.compile(r"No (replica set members|servers|mongoses) found yet"),
        "no server answered in time",
    ),
    (
        re.compile(r"(No replica set members available for replica set name .*)"),
        r"\1: the servers belong to no set, or to another; mend replicaSet in MONGO_URL",
    ),
)
"""What the driver says where it finds no server to ask, and what that means."""

_ADVICE = {
    13: "grant readWrite on the ledger's database to the user in MONGO_URL",
    18: "check user, password and authSource in MONGO_URL",
    79: "the name of the write concern is not one of the replica set's",
    14031: "free space where MongoDB keeps its data",
}
"""Code → what to do."""
NO_RETRYABLE_WRITES = "the server has no retryable writes: add retryWrites=false to MONGO_URL"
_NEEDS_LOGIN = "the server wants a login: put user and password into MONGO_URL"


def told(error: Exception) -> str:
    """The error on one line of at most `LIMIT` characters, with what to do where that is known."""
    said = _summed_up(error) if isinstance(error, driver.BulkWriteError) else _cleaned(str(error))
    code = error.code if isinstance(error, driver.OperationFailure) else None
    advice = _advice(code, said)
    room = LIMIT - len(advice) - 2
    return f"{said[:room].rstrip('.')}; {advice}" if advice else said[:LIMIT]


def refuses_retryable_writes(text: str) -> bool:
    """Whether a server says so: Amazon DocumentDB (with code 301), Azure Cosmos DB (2), or PyMongo
    of MongoDB (20).
    """
    return (
        "etryable writes are not supported" in text or "does not support retryable writes" in text
    )


def retry_after(error: Exception) -> timedelta | None:
    """How long the server says to wait before the same is asked again; `None` where it does not
    say.
    """
    if isinstance(error, driver.BulkWriteError):
        said = [wait_in(str(problem.get("errmsg", ""))) for problem in problems_of(error)]
        return max((wait for wait in said if wait is not None), default=None)
    return wait_in(str(error)) if isinstance(error, driver.OperationFailure) else None


def wait_in(text: str) -> timedelta | None:
    """As `retry_after`, of a server's message."""
    found = _RETRY_AFTER.match(text)
    return timedelta(milliseconds=int(found[1])) if found else None


def problems_of(error: driver.BulkWriteError) -> Iterator[Mapping[str, Any]]:
    """What went wrong in a bulk write: first with writes, then with their being acknowledged."""
    for kind in ("writeErrors", "writeConcernErrors"):
        found = error.details.get(kind)
        yield from found if isinstance(found, Sequence) else ()


def _advice(code: int | None, said: str) -> str:
    if refuses_retryable_writes(said):
        return NO_RETRYABLE_WRITES
    if code == 13 and "requires authentication" in said:
        return _NEEDS_LOGIN
    return _ADVICE.get(code, "") if code else ""


def _summed_up(error: driver.BulkWriteError) -> str:
    """How many writes failed, and why the first of each kind did: never the write itself, in which
    there is a row.
    """
    counts: dict[str, int] = {}
    for problem in problems_of(error):
        code = problem.get("code", 0)
        said = f"{_cleaned(str(problem.get('errmsg', '')))} (code {code}{_named(code)})"
        counts[said] = counts.get(said, 0) + 1
    if not counts:
        return "a bulk write failed"
    return "; ".join(
        said if count == 1 else f"{said}, {count} times" for said, count in counts.items()
    )


def _named(code: int) -> str:
    name = name_of(code)
    return f" {name}" if name else ""


def _cleaned(text: str) -> str:
    text = one_line(text.partition(_FULL_ERROR)[0])
    text = _DRIVER_INTERNALS.sub("", text)
    for pattern, meaning in _SELECTION:
        text = pattern.sub(meaning, text)
    return "".join(_without_raw(text))


def _without_raw(text: str) -> Iterator[str]:
    """The text, with a name in place of each command that is quoted, and `{…}` for every other raw
    document.
    """
    start = 0
    for begin, end in _outermost(text):
        quoted = text[begin:end]
        yield text[start:begin]
        if _RAW.search(quoted):
            command = _COMMAND.match(quoted)
            yield command[1] if command and text[:begin].endswith("command ") else "{…}"
        else:
            yield quoted
        start = end
    yield text[start:]


def _outermost(text: str) -> Iterator[tuple[int, int]]:
    """Where documents in braces begin and end, the outermost alone; one that was cut off ends with
    the text.
    """
    depth = begin = 0
    for at, character in enumerate(text):
        if character == "{":
            begin = at if depth == 0 else begin
            depth += 1
        elif character == "}" and depth:
            depth -= 1
            if depth == 0:
                yield begin, at + 1
    if depth:
        yield begin, len(text)
