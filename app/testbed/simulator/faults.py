"""What the simulated partner does wrong, and how often."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
"""A part of the requests: 0 none, 1 every one."""


class Fault(StrEnum):
    """What can go wrong besides a status."""

    SLOW = "slow"
    """Accepted, after a random time in `slow_seconds`."""
    HANG = "hang"
    """No answer until the client goes away."""
    CUT = "cut"
    """Not accepted: the connection is closed before an answer."""
    CUT_ANSWER = "cut_answer"
    """Not accepted: the connection is closed in the middle of a 200."""
    LOST_ANSWER = "lost_answer"
    """Accepted, then the connection is closed before the answer: the retry is a duplicate."""
    TWICE = "twice"
    """Accepted, and answered twice: the second answer is nobody's."""
    GARBAGE = "garbage"
    """Bytes that are not HTTP."""
    DRIP = "drip"
    """Not accepted: a 200 whose body comes a byte at a time and never ends."""
    OVERLOAD = "overload"
    """Not accepted: begins an episode of `overload_seconds` in which every request is answered 429.
    """
    FLOOD = "flood"
    """Accepted: a 200 whose body never ends, as fast as the client reads."""


class Faults(BaseModel):
    """The share of requests that each fault takes; the rest is accepted with 200."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    statuses: Mapping[Annotated[int, Field(ge=200, le=599)], Share] = Field(default_factory=dict)
    """Shares answered with a status. A 2xx here is accepted, any other is not."""
    slow: Share = 0
    hang: Share = 0
    cut: Share = 0
    cut_answer: Share = 0
    lost_answer: Share = 0
    twice: Share = 0
    garbage: Share = 0
    drip: Share = 0
    flood: Share = 0
    overload: Share = 0
    overload_seconds: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]] = (
        0.3,
        1.0,
    )
    """How long an episode lasts. Its Retry-After is what remains of it, rounded up to whole
    seconds.
    """
    slow_seconds: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]] = (0.2, 1.0)
    retry_after: str | None = "1"
    """Sent with each 429: seconds or an HTTP-date; `None` sends none."""
    limit: int | None = Field(default=None, ge=0)
    """After this many faulty answers every request is accepted."""

    @model_validator(mode="after")
    def _leaves_no_less_than_nothing(self) -> Self:
        total = sum(share for _, share in self.shares())
        if total > 1 + 1e-9:
            raise ValueError(f"the shares add up to {total:g}; at most 1")
        return self

    def shares(self) -> Iterator[tuple[int | Fault, float]]:
        """Each fault that happens at all, with its share."""
        yield from ((status, share) for status, share in self.statuses.items() if share)
        yield from ((fault, share) for fault in Fault if (share := getattr(self, fault)))


PRESETS: Mapping[str, Faults] = {
    "none": Faults(),
    "mild": Faults(statuses={500: 0.05}, slow=0.01, lost_answer=0.005, overload=0.001),
    "hostile": Faults(
        statuses={500: 0.08, 503: 0.07},
        overload=0.001,
        slow=0.03,
        slow_seconds=(0.2, 3.0),
        hang=0.01,
        cut=0.02,
        cut_answer=0.01,
        garbage=0.01,
        lost_answer=0.01,
    ),
}
"""No preset refuses a row for good, so each ends with every row delivered. 429s come in episodes: a
429 holds the whole endpoint, so even one in a hundred requests would hold it nearly always."""
