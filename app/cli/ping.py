"""`ping`: send the verification task through broker, worker and result backend."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Annotated

import typer

import config
from app.cli.loading import duration_option, load_config
from app.cli.tables import print_fields
from app.cli.terminal import AsJson, console, fail, print_json
from app.core.clock import said_of_clock, server_clock
from app.core.errors import RowrelayError
from app.monitoring.health import wrong_clocks
from app.runtime.reader import open_reader


def ping(
    timeout: Annotated[
        timedelta,
        typer.Option(
            parser=duration_option, show_default="10s", help="How long to wait for a worker."
        ),
    ] = timedelta(seconds=10),
    as_json: AsJson = False,
) -> None:
    """Send `add(2, 3)` through broker, worker and result backend, and say how long each leg took."""
    loaded = load_config()
    from tasks.ping import ask  # noqa: PLC0415 - loads Celery, of which --help needs none

    clocks = asyncio.run(
        _clocks(loaded)
    )  # before: a message says by the ledger server's clock when it expires
    try:
        answer = ask(loaded, 2, 3, timeout)
    except TimeoutError:
        fail(
            f"no worker answered within {timeout.total_seconds():g} s: is one running, with the queue `maintenance`?"
        )
    except RowrelayError as error:
        fail(str(error))
    if answer.total != 5:
        fail(f"the worker answered {answer.total} for 2 + 3")
    legs: dict[str, float] = {
        "to_broker_ms": round((answer.sent - answer.started) * 1000, 1),
        **_worker_legs(answer.sent, answer.done, answer.answered),
        "total_ms": round((answer.answered - answer.started) * 1000, 1),
    }
    if as_json:
        print_json({"ok": True, **legs, "clocks": clocks})
    else:
        print_fields(
            {"answer": "2 + 3 = 5", **{name: f"{value:.1f}" for name, value in legs.items()}}
        )
        for said in clocks:
            console.print(said, soft_wrap=True)


def _worker_legs(sent: float, done: float, answered: float) -> dict[str, float]:
    """Through the worker, and back; together where the worker's clock (`done`) is not ours."""
    if sent <= done <= answered:
        return {
            "through_worker_ms": round((done - sent) * 1000, 1),
            "result_back_ms": round((answered - done) * 1000, 1),
        }
    return {"through_worker_and_back_ms": round((answered - sent) * 1000, 1)}


async def _clocks(loaded: config.Config) -> list[str]:
    """What to say of clocks: this machine's, and those of workers and beat; nothing where the
    ledger is away.
    """
    try:
        async with open_reader(loaded) as reader:
            found = [
                f"{heartbeat.role.value} {heartbeat.name}: {said}"
                for heartbeat, said in await wrong_clocks(reader.ledger)
            ]
    except RowrelayError as error:
        return [f"clocks were not compared: {error}"]
    own = said_of_clock(server_clock.machine_ahead)
    return [f"here: {own}", *found] if own else found
