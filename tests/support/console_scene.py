"""An installation in the middle of its day, for the console to show: three feeds over real tables, polled and
sent by the use cases themselves, with a partner that answers by its script.

- `orders`: delivers, retries, and has dead letters of three kinds; one attempt's outcome is unknown;
- `invoices`: keys of two parts, `acme:INV-2026/00060` among them, which the partner refuses;
- `refunds`: paused by an operator, with rows waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import create_async_engine

import config
from app.core.attempts import Answer, Ruling
from app.core.clock import utc_now
from app.core.deliveries import Delivery
from app.core.period import Kind, period_of, previous
from app.delivery.deliver import Delivering
from app.delivery.sweep import Sweeping
from app.delivery.work import DeliverySettings
from app.feeds.feed import Feed
from app.intake.poll import Polling
from app.jobs.schedule import RECONCILE, REPORT_DAY
from app.ledger.heartbeats import Configured, Heartbeat, Role
from app.ledger.ticks import StepDone, TickState
from app.operations.by import By
from app.operations.pause import pause
from app.reconcile import Reconciling
from app.reports.reporting import Reporting
from tests.support.console import Consoled, console_config
from tests.support.doubles import VirtualClock
from tests.support.sources import SourceTables

INVOICE = "acme:INV-2026/00060"
"""The key of one row as a person writes it."""
REFUSED = '{"error":"tax id missing","field":"customer.tax_id"}'
"""What the partner answered for it."""
LEASE = timedelta(minutes=1)
WORKER = "celery@rowrelay-1"
ZONE = ZoneInfo("UTC")
PARTNER = "https://partner.example/v1"

Script = Callable[[Feed, Delivery], Answer]


def scene_config(directory: Path, mongo_url: str, redis_url: str) -> config.Config:
    """A configuration with the scene's feeds."""
    identity = {"strategy": "identity", "column": "id"}
    partner = {"url": f"{PARTNER}/orders", "auth": {"type": "bearer", "token": "s3cret-token"}}
    retry = {"max_attempts": 3, "backoff": "30s"}
    common = {"cursor": identity, "retry": retry, "batch_size": 50}
    plain: tuple[dict[str, object], ...] = (
        {"name": "orders", "table": "orders", "key": "id", "partner": partner},
        {
            "name": "invoices",
            "table": "invoices",
            "key": ["tenant", "number"],
            "partner": partner | {"url": f"{PARTNER}/invoices"},
        },
        {
            "name": "refunds",
            "table": "refunds",
            "key": "id",
            "partner": partner | {"url": f"{PARTNER}/refunds"},
        },
    )
    feeds = [Feed.model_validate(common | one) for one in plain]
    return console_config(directory, mongo_url, redis_url, feeds)


@dataclass(slots=True)
class ScenePartner:
    """Answers as its script says, at the scene's time."""

    now: VirtualClock
    script: Script
    requests: list[str] = field(default_factory=list)
    """Ids of deliveries, one a request."""

    def forget_token(self, feed: str) -> None:
        """There is none."""

    async def send(self, feed: Feed, delivery: Delivery) -> Answer:
        self.requests.append(delivery.id)
        return self.script(feed, delivery)


@dataclass(slots=True)
class Scene:
    """What stands, and hands to go on with it."""

    console: Consoled
    tables: SourceTables
    clock: VirtualClock
    partner: ScenePartner

    @property
    def feeds(self) -> dict[str, Feed]:
        return dict(self.console.services.operator.feeds)

    async def poll(self, feed: str) -> None:
        """Log the rows that are new."""
        operator = self.console.services.operator
        polling = Polling(
            operator.source,
            operator.ledger,
            self.console.queue,
            message_wait=LEASE,
            now=self.clock,
        )
        await polling.poll(self.feeds[feed])

    async def work(self) -> None:
        """A worker takes every message, as the partner's script has it."""
        terms = DeliverySettings(WORKER, LEASE, group_size=50, group_wait=timedelta(0))
        ledger = self.console.services.operator.ledger
        worker = Delivering(ledger, self.partner, terms, now=self.clock)
        while self.console.queue.messages:
            feed, batch = self.console.queue.messages.pop(0)
            await worker.deliver(self.feeds[feed], batch)

    async def later(self, minutes: float) -> None:
        """Time goes by; what is due is put on the queue, and worked at."""
        self.clock.advance(timedelta(minutes=minutes))
        ledger = self.console.services.operator.ledger
        sweeping = Sweeping(
            ledger,
            self.console.queue,
            self.feeds,
            lease=LEASE,
            limit=100,
            now=self.clock,
            steady=self.clock.steady,
        )
        await sweeping.sweep()
        await self.work()

    async def write(self, table: str, first: int, count: int) -> None:
        """Insert rows with these ids, and poll them."""
        rows = [ROWS[table](number) for number in range(first, first + count)]
        await self.tables.insert(table, rows)
        await self.poll(table)


def _order(number: int) -> dict[str, object]:
    return {"id": number, "customer": f"C-{number % 17:04}", "amount": f"{number * 3.5:.2f}"}


def _invoice(number: int) -> dict[str, object]:
    tenant = ("acme", "globex", "initech")[number % 3]
    return {"id": number, "tenant": tenant, "number": f"INV-2026/{number:05}", "total": number * 10}


ROWS: dict[str, Callable[[int], dict[str, object]]] = {
    "orders": _order,
    "invoices": _invoice,
    "refunds": _order,
}


def everyday(clock: VirtualClock) -> Script:
    """Most is taken; some is refused, some fails, one is lost on the way."""

    def answer(feed: Feed, delivery: Delivery) -> Answer:
        number = int("".join(filter(str.isdigit, delivery.key))[-5:])
        took = 40 + number % 50
        if feed.name == "invoices":
            if delivery.key.startswith("acme") and number % 20 == 0:
                return Answer(clock(), took, 422, body=REFUSED)
            return Answer(clock(), took, 201, body='{"accepted":true}')
        if number % 40 == 7:
            return Answer(clock(), took, 404, body="no such customer")
        if number % 40 == 11:
            return Answer(clock(), 900, 503, body="<h1>Service Unavailable</h1>")
        if number == 100 and delivery.attempts == 0:
            lost = "ReadError: the connection was closed before an answer"
            return Answer(clock(), 10_000, error=lost, ruling=Ruling.LOST)
        return Answer(clock(), took, 200, body='{"accepted":true}')

    return answer


async def set_scene(console: Consoled, directory: Path) -> Scene:
    """Make all of it, from yesterday noon to this moment."""
    database = directory / "source.db"
    database.touch()
    url = f"sqlite:///{database}"
    engine = create_async_engine(url.replace("sqlite", "sqlite+aiosqlite"))
    tables = SourceTables("sqlite", url, None, engine)
    await tables.run("PRAGMA journal_mode = WAL")
    order = {"id": "IDENTITY", "customer": "NVARCHAR", "amount": "NVARCHAR"}
    invoice = {"id": "IDENTITY", "tenant": "NVARCHAR", "number": "NVARCHAR", "total": "BIGINT"}
    for table, columns in {"orders": order, "refunds": order, "invoices": invoice}.items():
        await tables.make(table, **columns)
    clock = VirtualClock()
    scene = Scene(console, tables, clock, ScenePartner(clock, everyday(clock)))
    await console.services.operator.ledger.prepare()
    await _yesterday(scene)
    await _today(scene)
    await engine.dispose()
    return scene


async def _yesterday(scene: Scene) -> None:
    """A day with its certificates, its report, and the ticks of the jobs that made them."""
    today = utc_now().replace(hour=0, minute=0, second=0, microsecond=0)
    scene.clock.time = today - timedelta(hours=12)
    for hour in range(4):
        await scene.write("orders", 1 + 30 * hour, 30)
        await scene.write("invoices", 1 + 20 * hour, 20)
        await scene.work()
        await scene.later(55)
    operator = scene.console.services.operator
    scene.clock.time = max(today + timedelta(minutes=5), scene.clock.time)
    reconciling = Reconciling(
        operator.source,
        operator.ledger,
        scene.console.queue,
        message_wait=LEASE,
        heal_at_most=0,
        now=scene.clock,
    )
    for name in ("orders", "invoices"):
        await reconciling.reconcile(scene.feeds[name])
    yesterday = previous(period_of(today, Kind.DAY, ZONE), ZONE)
    folder = scene.console.services.loaded.settings.reports_dir
    later = today + timedelta(days=1)
    reporting = Reporting(operator.ledger, scene.feeds, zone=ZONE, folder=folder, now=lambda: later)
    await reporting.compile(yesterday)
    for job in (RECONCILE, REPORT_DAY):
        ticks = operator.ledger.ticks
        await ticks.plan(job.name, [(yesterday, yesterday.end)])
        (planned,) = await ticks.open(job.name)
        taken = await ticks.claim(planned, WORKER, yesterday.end, timedelta(days=2))
        assert taken
        await ticks.note_step(taken, StepDone("orders", yesterday.end, 420, {"rows": 120}))
        await ticks.finish(taken, TickState.DONE, yesterday.end, None)


async def _today(scene: Scene) -> None:
    """The last hour, up to this moment: deliveries of each state, a paused feed, a worker and beat."""
    now = utc_now()
    ledger = scene.console.services.operator.ledger
    scene.clock.time = max(now - timedelta(minutes=50), scene.clock.time)
    for step in range(4):
        await scene.write("orders", 121 + 30 * step, 30)
        await scene.write("invoices", 81 + 20 * step, 20)
        await scene.work()
        await scene.later(10)
    await scene.write("refunds", 1, 12)
    scene.console.queue.messages.clear()
    await pause(ledger, "refunds", By(who="vy", why="the partner moves to a new data centre"))
    scene.clock.time = now
    await scene.write("orders", 241, 12)
    await scene.work()
    await scene.write("invoices", 161, 8)
    scene.console.queue.messages.clear()  # logged, and not yet taken by a worker
    for role, name in ((Role.WORKER, WORKER), (Role.BEAT, "beat@rowrelay-1")):
        await ledger.heartbeats.put(_heartbeat(role, name, now))


def _heartbeat(role: Role, name: str, now: datetime) -> Heartbeat:
    return Heartbeat(
        role,
        name,
        "rowrelay-1",
        4711,
        now - timedelta(hours=30),
        now,
        broker_seconds=86_400,
        consumer_seconds=0.4,
        loop_seconds=0,
        moved_seconds=0.2,
        sent_seconds=1.5 if role is Role.BEAT else None,
        queues=("poll", "deliver", "maintenance") if role is Role.WORKER else (),
        taken=1280,
        configuration=Configured("", now - timedelta(hours=30)),
    )
