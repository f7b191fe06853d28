"""One loop and one set of clients a process, opened on first use, shared by all pool threads."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import config
from app.core.errors import LedgerUnavailable
from app.core.under_way import About
from app.runtime.loop import Runtime
from app.runtime.worker import Services, open_worker
from tests.support.doubles import MemoryQueue
from tests.unit.configuration.test_config import GOOD


@pytest.fixture
def loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mongo_database_url: str, clean_redis_url: str
) -> config.Config:
    """A configuration that names the test's servers."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "feeds.toml").write_text(GOOD, encoding="utf-8")
    for name, value in {
        "MONGO_URL": mongo_database_url,
        "REDIS_URL": clean_redis_url,
        "SOURCE_URL": f"sqlite:///{tmp_path}/source.db",
    }.items():
        monkeypatch.setenv(name, value)
    return config.load()


@pytest.fixture
def runtime(loaded: config.Config) -> Iterator[Runtime]:
    """A runtime; whether a test ran anything in it or not, it is closed."""
    running = Runtime(lambda: open_worker(loaded, MemoryQueue()))
    yield running
    running.close()


async def _where(services: Services) -> tuple[int, int, str]:
    return threading.get_ident(), id(services), await services.ledger.version()


def test_pool_threads_share_one_loop_and_one_set_of_clients(runtime: Runtime) -> None:
    with ThreadPoolExecutor(8) as pool:
        seen = {pool.submit(runtime.run, _where).result()[:2] for _ in range(20)}
    assert len(seen) == 1
    assert seen.pop()[0] != threading.get_ident()


def test_what_a_process_has_loaded_is_spared_from_collection_until_it_closes(
    runtime: Runtime,
) -> None:
    runtime.run(_where)
    assert gc.get_freeze_count() > 0
    runtime.close()
    assert gc.get_freeze_count() == 0


def test_a_slow_use_case_holds_up_no_other(runtime: Runtime) -> None:
    released = threading.Event()

    async def slow(_services: Services) -> str:
        while not released.is_set():  # noqa: ASYNC110 - the event belongs to another thread
            await asyncio.sleep(0.01)
        return "slow"

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(runtime.run, slow)
        runtime.run(_where)
        assert not waiting.done()
        released.set()
        assert waiting.result(timeout=10) == "slow"


def test_what_a_use_case_raises_reaches_its_caller(runtime: Runtime) -> None:
    async def fails(_services: Services) -> None:
        raise LedgerUnavailable("gone")

    with pytest.raises(LedgerUnavailable, match="gone"):
        runtime.run(fails)


def test_work_that_is_handed_over_keeps_nobody_waiting_but_the_end(runtime: Runtime) -> None:
    released, begun, ended = threading.Event(), list[str](), list[str]()

    def hand_over(name: str) -> None:
        async def work() -> None:
            begun.append(name)
            await asyncio.to_thread(released.wait)
            ended.append(name)

        runtime.call(lambda services: services.under_way.start(work, About(name), alone=True))

    for name in ("poll", "sweep", "poll"):
        hand_over(name)
    runtime.run(_where)
    assert (begun, ended) == (["poll", "sweep"], []), (
        "each once: what is under way sees what the second would have seen"
    )
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(runtime.close)
        assert not closing.done()
        released.set()
        closing.result(timeout=60)
    assert sorted(ended) == ["poll", "sweep"]


def test_a_closed_runtime_opens_anew(runtime: Runtime) -> None:
    first = runtime.run(_where)[1:]
    runtime.close()
    runtime.close()
    assert runtime.run(_where)[2] == first[1]


def test_a_ledger_that_is_away_is_told_and_tried_again_with_the_next_use_case(
    loaded: config.Config, mongo_database_url: str
) -> None:
    settings = [
        loaded.settings.model_copy(update={"mongo_url": _secret(url), "connect_timeout": timeout})
        for url, timeout in (
            ("mongodb://127.0.0.1:1/x", loaded.settings.connect_timeout / 10),
            (mongo_database_url, loaded.settings.connect_timeout),
        )
    ]
    configs = iter([config.Config(each, loaded.feeds) for each in settings])
    runtime = Runtime(lambda: open_worker(next(configs), MemoryQueue()))
    try:
        with pytest.raises(LedgerUnavailable):
            runtime.run(_where)
        assert runtime.run(_where)[2]
    finally:
        runtime.close()


def _secret(url: str) -> object:
    return type(config.Settings().mongo_url)(url)
