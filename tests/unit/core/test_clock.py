"""A process goes by the ledger server's time of day, whatever its machine's clock shows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.core.clock import AGREED, ServerClock, said_of_clock

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR, DAY = 3600.0, 86_400.0


ROOT = Path(__file__).resolve().parents[3]
ASKING = re.compile(
    r"datetime\.(now|utcnow|today)\(|date\.today\(|\btime\.time(_ns)?\(|\btime\.(gmtime|localtime)\("
)
"""What asks the machine for its time of day."""
MAY_ASK = {
    "app/console/security/login_limits.py",
    "app/core/clock.py",
    "app/core/logs.py",
    "tasks/ping.py",
}
"""The clock itself, lines of a log, how long `ping` took, and how long until a login may be tried again
(by the clock of the library that counts them).
"""


def test_nobody_asks_the_machine_for_the_time_of_day() -> None:
    """A moment by the machine's clock beside one by the ledger server's is wrong by as much as the
    machine is.
    """
    apart = ("app/testbed/simulator/", "app/testbed/embedded/")
    files = [path for folder in ("app", "tasks") for path in sorted((ROOT / folder).rglob("*.py"))]
    names = {
        str(path.relative_to(ROOT))
        for path in files
        if ASKING.search(path.read_text(encoding="utf-8"))
    }
    assert {name for name in names if not name.startswith(apart)} == MAY_ASK


@dataclass
class Machine:
    """A machine, and the server that it asks: each has a time of day, and what passes is the same
    for both.
    """

    passed: float = 0.0
    wrong_by: float = 0.0
    server: datetime = NOON

    def __post_init__(self) -> None:
        self.clock = ServerClock(wall=self.wall, steady=lambda: 500.0 + self.passed)

    def wall(self) -> float:
        return NOON.timestamp() + self.passed + self.wrong_by

    @property
    def right(self) -> datetime:
        return self.server + timedelta(seconds=self.passed)

    def ask(self, takes: float = 0.002) -> float:
        """Ask the server, whose answer is made half-way."""
        asked = self.clock.steady()
        self.passed += takes / 2
        theirs = self.right.replace(microsecond=self.right.microsecond // 1000 * 1000)
        self.passed += takes / 2
        return self.clock.note(theirs, asked, self.clock.steady())

    def error(self) -> float:
        return abs((self.clock() - self.right).total_seconds())


def test_before_the_server_was_asked_the_machine_is_believed() -> None:
    machine = Machine(wrong_by=HOUR)
    assert machine.clock() == NOON + timedelta(hours=1)
    assert machine.clock.machine_ahead is None


@pytest.mark.parametrize("wrong_by", [-100 * DAY, -HOUR, -2.0, 0.0, 2.0, HOUR, 100 * DAY])
def test_a_machine_that_is_wrong_goes_by_the_servers_clock_and_says_by_how_much(
    wrong_by: float,
) -> None:
    machine = Machine(wrong_by=wrong_by)
    machine.ask()
    machine.passed += HOUR
    assert machine.error() < 0.005
    assert machine.clock.machine_ahead == pytest.approx(wrong_by, abs=0.005)
    assert (said_of_clock(machine.clock.machine_ahead) is None) == (wrong_by == 0.0)


@pytest.mark.parametrize("step", [-40 * DAY, -HOUR, HOUR, 40 * DAY])
def test_setting_the_machines_clock_changes_nothing(step: float) -> None:
    machine = Machine()
    machine.ask()
    before = machine.clock()
    machine.wrong_by = step
    assert machine.clock() == before
    assert machine.ask() == 0.0
    assert machine.clock.steps_back == 0


def test_an_answer_that_took_long_does_not_spoil_what_is_known() -> None:
    machine = Machine()
    machine.ask(takes=0.001)
    machine.ask(takes=20.0)
    assert machine.error() < 0.005


def test_what_is_known_is_refined_by_a_better_answer() -> None:
    machine = Machine()
    asked = machine.clock.steady()
    machine.passed += 4.0
    machine.clock.note(
        machine.right, asked, machine.clock.steady()
    )  # it was made at the end, not half-way
    assert machine.error() == pytest.approx(2.0, abs=0.01)
    machine.ask()
    assert machine.error() < 0.005


@pytest.mark.parametrize("step", [-HOUR, HOUR])
def test_a_server_whose_clock_is_set_is_followed(step: float) -> None:
    """A failover to a member with another clock, or a clock that was corrected."""
    machine = Machine()
    machine.ask()
    machine.server += timedelta(seconds=step)
    assert machine.ask() == pytest.approx(step, abs=0.01)
    assert machine.error() < 0.005
    assert machine.clock.steps_back == (step < 0)


def test_members_that_differ_by_less_than_all_may_are_no_step_back() -> None:
    machine = Machine()
    machine.ask()
    machine.server -= AGREED / 2
    machine.ask()
    assert machine.clock.steps_back == 0


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, None),
        (0.9, None),
        (-1.0, None),
        (1.6, "its machine's clock is 2 s ahead of the ledger server's"),
        (-3600.0, "its machine's clock is 3600 s behind the ledger server's"),
    ],
)
def test_a_clock_is_told_of_when_it_differs_by_more_than_a_second(
    seconds: float | None, said: str | None
) -> None:
    told = said_of_clock(seconds)
    assert told is None if said is None else told is not None and told.startswith(said)
