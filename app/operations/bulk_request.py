"""What an operator asks of an operation in bulk, and within which bounds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256

import orjson

from app.core.errors import OperationRefused
from app.core.operations import OperationKind, Pace
from app.core.states import OPEN_STATES, State
from app.feeds.feed import Rate, parse_rate
from app.ledger.operation_documents import chosen_of
from app.ledger.selection import Selection

TAKES: Mapping[OperationKind, tuple[State, ...]] = {
    OperationKind.REPLAY: (State.DEAD, State.CANCELLED, State.DELIVERED),
    OperationKind.CANCEL: tuple(OPEN_STATES),
    OperationKind.ACKNOWLEDGE: (State.DEAD,),
}
"""Kind → the states that it can be used on; of a replay, the first where none is named."""
DEFAULT_RATE: Mapping[OperationKind, str] = {
    OperationKind.REPLAY: "50/second",
    OperationKind.CANCEL: "1000/second",
    OperationKind.ACKNOWLEDGE: "1000/second",
}
LARGEST = 1_000_000
"""Deliveries that a set holds."""
FASTEST = 10_000
"""Deliveries a second."""
LARGEST_CANARY = 1000
_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")


@dataclass(frozen=True, slots=True)
class NewOperation:
    """What an operator asks for."""

    id: str
    """Theirs: the same one asked for twice is one operation."""
    kind: OperationKind
    selection: Selection
    pace: Pace

    @property
    def request(self) -> str:
        """A hash of what is asked for: the same id means the same."""
        asked = [self.kind.value, chosen_of(self.selection), asdict(self.pace)]
        return sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()

    def check(self) -> None:
        """Raise `OperationRefused` for an id or a pace that cannot be taken."""
        if not _ID.fullmatch(self.id):
            raise OperationRefused("8 to 64 letters, digits, - and _", "id")
        pace = self.pace
        rate_of(pace)
        if self.kind is not OperationKind.REPLAY and (pace.canary or pace.stop_ratio is not None):
            raise OperationRefused(
                f"a {self.kind} sends nothing that could fail: only a replay has it", "canary"
            )
        if not 0 <= pace.canary <= LARGEST_CANARY:
            raise OperationRefused(f"a canary of 0 to {LARGEST_CANARY}", "canary")
        if pace.canary and pace.stop_ratio is None:
            raise OperationRefused(
                "a canary needs it: above which part of failures it stops", "stop_ratio"
            )
        if pace.stop_ratio is not None and not 0 <= pace.stop_ratio <= 1:
            raise OperationRefused("a ratio of 0 to 1", "stop_ratio")


def rate_of(pace: Pace) -> Rate:
    """Its rate. Raises `OperationRefused`."""
    try:
        rate = parse_rate(pace.rate)
    except ValueError as error:
        raise OperationRefused(f"found {pace.rate!r}: takes {error}", "rate") from error
    if not isinstance(rate, Rate) or rate.count / rate.per_seconds > FASTEST:
        raise OperationRefused(f"found {pace.rate!r}: at most {FASTEST}/second", "rate")
    return rate
