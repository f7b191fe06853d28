"""The simulated partner does what it is told and counts what reached it: everything else is
measured against it.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pydantic import ValidationError

from app.testbed.simulator.faults import PRESETS, Fault, Faults
from app.testbed.simulator.partner import Simulator, serve
from tests.support.wait import until

ROOT = Path(__file__).parents[3]


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as opened:
        yield opened


async def post(session: aiohttp.ClientSession, partner: Simulator, key: str | None) -> int | None:
    """Deliver a row; `None` where no answer came."""
    headers = {} if key is None else {"Idempotency-Key": key}
    try:
        async with session.post(
            f"{partner.url}/rows", json={"id": key}, headers=headers
        ) as response:
            await response.read()
            return response.status
    except aiohttp.ClientError:
        return None


async def control(
    session: aiohttp.ClientSession, method: str, url: str, body: object = None
) -> Any:
    async with session.request(method, url, json=body) as response:
        assert response.status == 200
        return await response.json()


async def test_requests_keys_and_duplicates_are_counted(session: aiohttp.ClientSession) -> None:
    async with serve() as partner:
        for key in ("a", "b", "a", None, "a"):
            assert await post(session, partner, key) == 200
        counts = await control(session, "GET", f"{partner.url}/_simulator/counts")
    assert counts == {
        "requests": 5,
        "accepted": 5,
        "unique": 2,
        "duplicates": 2,
        "keyless": 1,
        "by_status": {"200": 5},
        "by_fault": {},
    }


async def test_every_accepted_key_is_listed_with_its_count(session: aiohttp.ClientSession) -> None:
    async with serve() as partner:
        for key in ("a", "b", 'a "quoted" key', "a"):
            await post(session, partner, key)
        async with session.get(f"{partner.url}/_simulator/keys") as response:
            lines = [json.loads(line) for line in (await response.text()).splitlines()]
    assert {line["key"]: line["count"] for line in lines} == {"a": 2, "b": 1, 'a "quoted" key': 1}


async def test_a_refused_row_is_not_accepted(session: aiohttp.ClientSession) -> None:
    async with serve(Faults(statuses={500: 1})) as partner:
        assert await post(session, partner, "a") == 500
        assert (partner.counts()["requests"], partner.counts()["accepted"]) == (1, 0)


async def test_a_lost_answer_makes_the_retry_a_duplicate(session: aiohttp.ClientSession) -> None:
    async with serve(Faults(lost_answer=1, limit=1)) as partner:
        assert await post(session, partner, "a") is None
        assert await post(session, partner, "a") == 200
        counts = partner.counts()
    assert (counts["accepted"], counts["unique"], counts["duplicates"]) == (2, 1, 1)
    assert counts["by_fault"] == {"lost_answer": 1}


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.CUT_ANSWER, Fault.GARBAGE])
async def test_a_broken_answer_accepts_nothing(
    session: aiohttp.ClientSession, fault: Fault
) -> None:
    async with serve(Faults.model_validate({fault: 1})) as partner:
        assert await post(session, partner, "a") is None
        assert partner.counts()["accepted"] == 0
        assert partner.counts()["by_fault"] == {fault: 1}


async def test_an_answer_given_twice_is_one_acceptance(session: aiohttp.ClientSession) -> None:
    async with serve(Faults(twice=1, limit=1)) as partner:
        assert await post(session, partner, "a") == 200
        assert await post(session, partner, "b") == 200
        assert partner.counts()["unique"] == partner.counts()["accepted"] == 2


async def test_a_slow_answer_is_an_acceptance(session: aiohttp.ClientSession) -> None:
    async with serve(Faults(slow=1, slow_seconds=(0.01, 0.02))) as partner:
        assert await post(session, partner, "a") == 200
        assert partner.counts()["by_fault"] == {"slow": 1}


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.DRIP, Fault.FLOOD])
async def test_an_answer_without_end_does_not_keep_the_simulator_from_stopping(
    session: aiohttp.ClientSession, fault: Fault
) -> None:
    async with asyncio.timeout(5):
        async with serve(Faults.model_validate({fault: 1})) as partner:
            waiting = asyncio.create_task(post(session, partner, "a"))
            while not partner.counts()["requests"]:  # noqa: ASYNC110  the simulator has no event for it
                await asyncio.sleep(0)  # let the request arrive
        assert await waiting is None


async def test_a_429_says_when_to_come_back(session: aiohttp.ClientSession) -> None:
    async with (
        serve(Faults(statuses={429: 1}, retry_after="30")) as partner,
        session.post(partner.url, json={}) as response,
    ):
        assert (response.status, response.headers["Retry-After"]) == (429, "30")


async def test_an_overload_is_an_episode_in_which_every_request_is_told_to_come_back(
    session: aiohttp.ClientSession,
) -> None:
    async with serve(Faults(overload=1, overload_seconds=(2.5, 2.5), limit=1)) as partner:
        told = []
        for _ in range(3):
            async with session.post(partner.url, json={}) as response:
                assert response.status == 429
                told.append(response.headers["Retry-After"])
        assert told[0] == "3"
        assert {*told} <= {"3", "2", "1"}
        assert partner.counts()["by_fault"] == {"overload": 3}

        async def over() -> bool:
            return await post(session, partner, "a") == 200

        await until(over, message="the episode to end")


async def test_arrivals_are_told_in_order(session: aiohttp.ClientSession) -> None:
    async with serve() as partner:
        for key in ("a", "b"):
            await post(session, partner, key)
        arrivals = await control(session, "GET", f"{partner.url}/_simulator/arrivals")
    assert len(arrivals) == 2
    assert arrivals == sorted(arrivals)


async def test_faults_come_at_their_rates_and_the_same_for_the_same_seed(
    session: aiohttp.ClientSession,
) -> None:
    faults = Faults(statuses={500: 0.2, 503: 0.1}, lost_answer=0.1)
    runs = []
    for seed in (7, 7, 8):
        async with serve(faults, seed=seed) as partner:
            runs.append([await post(session, partner, str(number)) for number in range(600)])
    first, again, other = runs
    assert first == again != other
    shares = [first.count(answer) / 600 for answer in (500, 503, None, 200)]
    assert shares == pytest.approx(
        [0.2, 0.1, 0.1, 0.6], abs=0.06
    )  # above three standard deviations


async def test_faults_can_be_replaced_while_it_runs(session: aiohttp.ClientSession) -> None:
    async with serve() as partner:
        url = f"{partner.url}/_simulator/faults"
        assert await post(session, partner, "a") == 200
        taken = await control(session, "PUT", url, {"statuses": {"503": 1}})
        assert taken["statuses"] == {"503": 1}
        assert await post(session, partner, "a") == 503
        await control(session, "PUT", url, PRESETS["none"].model_dump(mode="json"))
        assert await post(session, partner, "a") == 200


async def test_wrong_faults_are_refused_and_change_nothing(session: aiohttp.ClientSession) -> None:
    async with serve() as partner:
        async with session.put(f"{partner.url}/_simulator/faults", json={"slwo": 1}) as response:
            assert response.status == 400
            assert "slwo" in await response.text()
        assert await post(session, partner, "a") == 200


async def test_a_reset_forgets_everything_but_the_faults(session: aiohttp.ClientSession) -> None:
    async with serve(Faults(statuses={500: 1}, limit=1)) as partner:
        assert [await post(session, partner, "a") for _ in range(2)] == [500, 200]
        counts = await control(session, "POST", f"{partner.url}/_simulator/reset")
        assert (counts["requests"], counts["unique"], counts["by_status"]) == (0, 0, {})
        assert [await post(session, partner, "a") for _ in range(2)] == [500, 200]


async def test_an_unknown_control_is_not_taken_for_a_row(session: aiohttp.ClientSession) -> None:
    async with serve() as partner:
        async with session.get(f"{partner.url}/_simulator/nothing") as response:
            assert response.status == 404
        assert partner.counts()["requests"] == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"hang": 1.1},
        {"cut": -0.1},
        {"hang": 0.6, "cut": 0.6},
        {"statuses": {99: 0.1}},
        {"unknown": 0.1},
    ],
)
def test_shares_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Faults.model_validate(wrong)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_no_preset_makes_dead_letters(name: str) -> None:
    assert set(PRESETS[name].statuses) <= {429, 500, 503}


@pytest.mark.parametrize("announced", [True, False])
def test_the_process_says_where_it_listens_and_stops_on_a_signal(
    announced: bool, tmp_path: Path
) -> None:
    file = tmp_path / "url"
    options = ["--announce", str(file)] if announced else []
    command = [sys.executable, "-m", "app.testbed.simulator.partner", "--faults", "mild", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = _wait_for(file, process) if announced else process.stdout.readline()
            assert url.startswith("http://127.0.0.1:")
            assert url.endswith("\n")
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    assert list(tmp_path.iterdir()) == ([file] if announced else [])


def _wait_for(file: Path, process: subprocess.Popen[str]) -> str:
    """The file's text as soon as it exists, or the failure to make it."""
    while not file.exists():
        try:
            process.wait(timeout=0.05)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError("the simulator ended before it announced itself")
    return file.read_text(encoding="utf-8")
