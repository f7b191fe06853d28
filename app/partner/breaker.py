"""When a circuit breaker opens: pure counting, over the results of one endpoint.

Closed, requests go as they come. Where too many of the last ones failed it opens, and nothing is sent for a while. Then
it is half-open: a few probes go, and it closes when all of them succeed, or opens again with the first that fails.
https://learn.microsoft.com/azure/architecture/patterns/circuit-breaker
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import timedelta
from http import HTTPStatus

from app.feed import Breaker
from app.models import Answer, Ruling

BUCKETS = 10
"""Parts that a window is counted in; the oldest falls out as a whole."""


def failed(answer: Answer) -> bool:
    """Whether an answer says that the endpoint is unwell: none at all, 408, 5xx, or a 2xx that is no success yet.

    A 429 is a request for patience, which holds the endpoint by itself; other 4xx speak of the row, as does a 2xx that
    the feed's `success` check makes dead.
    """
    if answer.ruling is not None:
        return answer.ruling in (Ruling.FAILED, Ruling.LOST)
    return answer.status is None or answer.status >= 500 or answer.status == HTTPStatus.REQUEST_TIMEOUT


def count_failed(answers: Iterable[Answer]) -> int:
    """How many of the answers say so."""
    return sum(map(failed, answers))


def should_open(breaker: Breaker, sent: int, failures: int) -> bool:
    """Whether `failures` of `sent` requests in the window are too many."""
    return breaker.enabled and sent >= breaker.min_requests and failures >= breaker.failure_ratio * sent


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
        return sum(bucket[1] for bucket in self._buckets), sum(bucket[2] for bucket in self._buckets)

    def clear(self) -> None:
        """Forget everything: the breaker has just opened or closed."""
        self._buckets.clear()
