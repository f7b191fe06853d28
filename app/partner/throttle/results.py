"""Counts how requests to an endpoint end: within a window, and failures in a row. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus

from app.core.attempts import Answer, Ruling

BUCKETS = 10
"""Buckets in a window; the oldest is dropped as a whole."""


def failed(answer: Answer) -> bool:
    """Whether an answer says that the endpoint is unwell: none at all, 408, 5xx, or a 2xx that is
    no success yet.

    A 429 is a request for patience, which holds the endpoint by itself; other 4xx speak of the row,
    as does a 2xx that the feed's `success` check makes dead.
    """
    if answer.ruling is not None:
        return answer.ruling in (Ruling.FAILED, Ruling.LOST)
    return (
        answer.status is None or answer.status >= 500 or answer.status == HTTPStatus.REQUEST_TIMEOUT
    )


def is_well(answer: Answer) -> bool:
    """Whether an answer says that the endpoint takes requests again."""
    return (
        answer.status is not None
        and answer.status != HTTPStatus.TOO_MANY_REQUESTS
        and not failed(answer)
    )


def of_the_endpoint(answer: Answer) -> bool:
    """Whether the answer says anything of the endpoint: a row of which no request can be made does
    not.
    """
    return answer.status is not None or failed(answer)


@dataclass(frozen=True, slots=True)
class Results:
    """How some requests ended, in order."""

    sent: int = 0
    failed: int = 0
    trailing: int = 0
    """Failures since the last that did not fail."""

    @classmethod
    def of(cls, answers: Iterable[Answer]) -> Results:
        """Of answers, in the order of their arrival."""
        sent = failures = trailing = 0
        for answer in answers:
            unwell = failed(answer)
            sent, failures, trailing = sent + 1, failures + unwell, trailing + 1 if unwell else 0
        return cls(sent, failures, trailing)

    def then(self, later: Results) -> Results:
        """These results followed by the later ones."""
        return Results(
            self.sent + later.sent, self.failed + later.failed, later.in_a_row(self.trailing)
        )

    def in_a_row(self, before: int) -> int:
        """Failures in a row at the end of these, where there were so many before them."""
        return self.trailing if self.sent > self.failed else before + self.failed


class Window:
    """Requests sent and failed in the last while, of this process."""

    def __init__(self, length: timedelta) -> None:
        self._bucket_seconds = length.total_seconds() / BUCKETS
        self._buckets: deque[tuple[int, int, int]] = deque()

    def add(self, now: float, sent: int, failures: int) -> None:
        """Count a group of results at `now`, in seconds of a clock that never goes back."""
        bucket = int(now / self._bucket_seconds)
        if self._buckets and self._buckets[-1][0] == bucket:
            _, sent_before, failed_before = self._buckets.pop()
            sent, failures = sent + sent_before, failures + failed_before
        self._buckets.append((bucket, sent, failures))

    def totals(self, now: float) -> tuple[int, int]:
        """(sent, failed) in the window that ends now."""
        oldest = int(now / self._bucket_seconds) - BUCKETS
        while self._buckets and self._buckets[0][0] <= oldest:
            self._buckets.popleft()
        return sum(bucket[1] for bucket in self._buckets), sum(
            bucket[2] for bucket in self._buckets
        )

    def clear(self) -> None:
        """Forget everything: the breaker has just opened or closed."""
        self._buckets.clear()
