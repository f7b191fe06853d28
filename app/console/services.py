"""The console's services, each made once, over one store and one operator of the ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cached_property

import structlog

from app.configuration.loaded import Loaded
from app.console.api_keys.service import ApiKeys
from app.console.audit.service import Audit
from app.console.certificates.service import Certificates
from app.console.dead_letters.service import DeadLetters
from app.console.deliveries.exporting import Exporting
from app.console.deliveries.service import Deliveries
from app.console.feedback.service import FeedbackNotes
from app.console.feeds.service import Feeds
from app.console.health.service import Health
from app.console.idempotency.service import Idempotency
from app.console.jobs.service import Jobs
from app.console.metrics import Metrics
from app.console.notifications.detection import Detection
from app.console.notifications.service import Notifications
from app.console.notifications.telling import Telling
from app.console.operations.service import Operations
from app.console.origins.service import Origins
from app.console.reports.service import Reports
from app.console.security.access_tokens import AccessTokens, secret_of
from app.console.security.authentication import Authentication, cookie_settings
from app.console.security.login_limits import LoginLimits
from app.console.security.passwords import Passwords
from app.console.security.sealing import Sealing
from app.console.sessions.service import Sessions
from app.console.store.engine import open_engine
from app.console.store.migrate import migrate, require_current
from app.console.store.store import Store
from app.console.tokens.service import Tokens
from app.console.users.service import Users
from app.console.workers.service import Workers
from app.core.clock import Clock, utc_now
from app.runtime.operator import OpenQueue, Operator, open_operator
from app.runtime.senders import conditions_of, notifying_of

log = structlog.get_logger()


class Services:
    """What the routes call. On one event loop."""

    def __init__(
        self, loaded: Loaded, operator: Operator, *, console_url: str, now: Clock = utc_now
    ) -> None:
        """`console_url`: the address that browsers are given. Raises `ConfigError` for settings of the
        console that cannot be used."""
        settings = loaded.settings
        self.loaded = loaded
        self.operator = operator
        self.console_url = console_url
        self.now = now
        self.closing = AsyncExitStack()
        self.store = Store(open_engine(settings))
        self.metrics = Metrics(self.store, now)
        self.passwords = Passwords()
        self.secret = secret_of(settings)
        self.access_tokens = AccessTokens(self.secret, now)
        self.login_limits = LoginLimits(settings.redis, settings.connect_timeout)
        self.authentication = Authentication(
            self.store,
            self.access_tokens,
            cookie_settings(console_url),
            settings.console_session_idle,
            now,
        )

    @cached_property
    def sealing(self) -> Sealing:
        """Seals what the console's database keeps and nobody but the console may read."""
        return Sealing(self.secret)

    @cached_property
    def audit(self) -> Audit:
        """The audit log."""
        return Audit(self.store, self.now)

    @cached_property
    def users(self) -> Users:
        """Users and profiles."""
        return Users(
            self.store,
            self.audit,
            self.passwords,
            self.login_limits,
            self.console_url,
            self.now,
        )

    @cached_property
    def sessions(self) -> Sessions:
        """Logins of browsers."""
        settings = self.loaded.settings
        return Sessions(
            self.store,
            self.audit,
            self.passwords,
            self.login_limits,
            settings.console_session,
            settings.console_session_idle,
            self.now,
        )

    @cached_property
    def tokens(self) -> Tokens:
        """Logins of programs."""
        return Tokens(self.store, self.audit, self.sessions, self.access_tokens, self.now)

    @cached_property
    def api_keys(self) -> ApiKeys:
        """Keys of machines."""
        return ApiKeys(self.store, self.audit, self.now)

    @cached_property
    def origins(self) -> Origins:
        """Whose pages may call the API."""
        return Origins(self.store, self.audit, self.now)

    @cached_property
    def feeds(self) -> Feeds:
        """How feeds are doing, and what is done with them."""
        feeds = Feeds(self.loaded, self.operator, self.audit, self.secret, self.now)
        self.closing.push_async_callback(feeds.close)
        return feeds

    @cached_property
    def deliveries(self) -> Deliveries:
        """Search, look, reveal, act on one."""
        return Deliveries(self.operator, self.audit, self.now)

    @cached_property
    def operations(self) -> Operations:
        """Operations in bulk."""
        return Operations(self.operator, self.deliveries, self.audit, self.now)

    @cached_property
    def idempotency(self) -> Idempotency:
        """Answers to requests that may be repeated."""
        return Idempotency(self.store, self.secret, self.now)

    @cached_property
    def feedback(self) -> FeedbackNotes:
        """Notes on deliveries and feeds."""
        return FeedbackNotes(self.store, self.audit, self.loaded, self.operator, self.now)

    @cached_property
    def dead_letters(self) -> DeadLetters:
        """Dead letters in groups."""
        return DeadLetters(self.operator, self.now)

    @cached_property
    def exporting(self) -> Exporting:
        """Searches as files."""
        return Exporting(self.operator, self.audit)

    @cached_property
    def workers(self) -> Workers:
        """Workers and beat."""
        workers = Workers(self.loaded, self.operator, self.now)
        self.closing.push_async_callback(workers.close)
        return workers

    @cached_property
    def jobs(self) -> Jobs:
        """Periodic jobs."""
        return Jobs(self.loaded, self.operator, self.audit, self.now)

    @cached_property
    def reports(self) -> Reports:
        """Reports that are kept."""
        return Reports(self.operator)

    @cached_property
    def certificates(self) -> Certificates:
        """What reconciliations found."""
        return Certificates(self.operator)

    @cached_property
    def notifications(self) -> Notifications:
        """Events, and what each user is told of."""
        ledger = self.operator.ledger
        return Notifications(self.store, self.audit, self.loaded, ledger, self.sealing, self.now)

    @cached_property
    def telling(self) -> Telling:
        """Tells users of events."""
        ledger, broker = self.operator.ledger, self.operator.broker
        detection = Detection(ledger, notifying_of(self.loaded, ledger, broker), self.now)
        conditions = conditions_of(self.loaded, ledger, broker)
        settings = self.loaded.settings
        return Telling(self.store, ledger, conditions, detection, settings, self.sealing, self.now)

    @cached_property
    def health(self) -> Health:
        """Whether the console can answer."""
        return Health(self.store, self.operator)

    async def bring_up(self) -> None:
        """Bring an SQLite database to this version's schema. Raises `ConfigError` for another product's
        that is not at it."""
        engine = self.store.engine
        if engine.dialect.name != "sqlite":
            await require_current(engine)
        else:
            before, now = await migrate(engine)
            if before != now:
                log.info("console_database_migrated", before=before, now=now)
        await self.notifications.seal_all()


@asynccontextmanager
async def open_services(
    loaded: Loaded, open_queue: OpenQueue, console_url: str | None = None
) -> AsyncIterator[Services]:
    """The services, over clients that are closed at the end. `console_url`: the address that browsers
    are given, if it is not `CONSOLE_URL`. Raises `ConfigError`."""
    url = console_url or loaded.settings.console_url
    async with open_operator(loaded, open_queue) as operator:
        services = Services(loaded, operator, console_url=url)
        try:
            await services.bring_up()
            yield services
        finally:
            await services.closing.aclose()
            await services.login_limits.close()
            await services.store.close()
