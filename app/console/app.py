"""The ASGI application of the console: an API under `/api/v1`, and web pages that call the same services."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.staticfiles import StaticFiles

from app import VERSION
from app.console import openapi, pages, problems
from app.console.api_keys import routes as api_keys
from app.console.audit import pages as audit_pages
from app.console.audit import routes as audit
from app.console.certificates import pages as certificates_pages
from app.console.certificates import routes as certificates
from app.console.dead_letters import pages as dead_letters_pages
from app.console.dead_letters import routes as dead_letters
from app.console.deliveries import pages as deliveries_pages
from app.console.deliveries import routes as deliveries
from app.console.errors import NotAuthenticated
from app.console.feedback import pages as feedback_pages
from app.console.feedback import routes as feedback
from app.console.feeds import events
from app.console.feeds import pages as feed_pages
from app.console.feeds import routes as feeds
from app.console.health import routes as health
from app.console.idempotency.middleware import Idempotent
from app.console.jobs import pages as job_pages
from app.console.jobs import routes as jobs
from app.console.metrics import Measured
from app.console.notifications import pages as notification_pages
from app.console.notifications import routes as notifications
from app.console.operations import pages as operation_pages
from app.console.operations import routes as operations
from app.console.origins import pages as origin_pages
from app.console.origins import routes as origins
from app.console.reports import pages as reports_pages
from app.console.reports import routes as reports
from app.console.security.guard import Guard
from app.console.services import Services
from app.console.sessions import admin_pages as session_pages
from app.console.sessions import pages as login
from app.console.sessions import routes as sessions
from app.console.tokens import pages as token_pages
from app.console.tokens import routes as tokens
from app.console.users import pages as user_pages
from app.console.users import profile_pages
from app.console.users import routes as users
from app.console.workers import pages as worker_pages
from app.console.workers import routes as workers
from app.core.errors import RowrelayError

API = "/api/v1"
API_ROUTERS: tuple[APIRouter, ...] = (
    api_keys.router,
    audit.router,
    certificates.router,
    dead_letters.router,
    deliveries.router,
    events.router,
    feedback.router,
    feeds.router,
    jobs.router,
    notifications.router,
    operations.router,
    origins.router,
    reports.router,
    sessions.router,
    tokens.router,
    users.router,
    workers.router,
)
PAGE_ROUTERS: tuple[APIRouter, ...] = (
    audit_pages.router,
    certificates_pages.router,
    dead_letters_pages.router,
    deliveries_pages.router,
    feed_pages.router,
    feedback_pages.router,
    job_pages.router,
    login.router,
    notification_pages.router,
    operation_pages.router,
    origin_pages.router,
    profile_pages.router,
    reports_pages.router,
    session_pages.router,
    token_pages.router,
    user_pages.router,
    worker_pages.router,
)


def make_app(services: Services) -> FastAPI:
    """The application over services that are open."""
    app = FastAPI(
        title="Rowrelay console",
        version=VERSION,
        summary="Feeds, deliveries and operations of one installation.",
        openapi_url=f"{API}/openapi.json",
        docs_url=None,
        redoc_url=None,
        separate_input_output_schemas=False,
    )
    app.router.routes.extend(_routes())
    app.mount("/static", _static(), name="static")
    app.add_exception_handler(RowrelayError, _error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_middleware(
        Idempotent,
        requests=services.idempotency,
        who=services.authentication.principal,
    )
    app.add_middleware(
        Guard,
        console_url=services.console_url,
        known=services.origins.is_known,
        failed=_failed,
    )
    openapi.describe(app)
    app.add_middleware(Measured, metrics=services.metrics)  # the last one is the outermost
    app.state.services = services
    return app


def _static() -> GZipMiddleware:
    """Style sheet and scripts, compressed. Pages are not: beside what a request repeats they may hold
    what only its reader may know, and the length of what is compressed would tell (BREACH)."""
    return GZipMiddleware(StaticFiles(directory=Path(__file__).parent / "static"))


@cache
def _routes() -> Sequence[BaseRoute]:
    """All routes, made once a process: they find the services by the application that is asked."""
    root = APIRouter()
    api = APIRouter(prefix=API, responses=problems.RESPONSES)
    for router in API_ROUTERS:
        api.include_router(router)
    for router in (api, health.router, *PAGE_ROUTERS):
        root.include_router(router)
    return [*root.routes]


async def _failed(request: Request, error: Exception) -> Response:
    """What nobody answered: the database is away before a request is looked at, or a fault of ours."""
    if isinstance(error, RowrelayError):
        return await _error(request, error)
    return await _as_page(request, await problems.unforeseen(request, error))


async def _error(request: Request, error: Exception) -> Response:
    """Our errors: a problem for a program, a page for a person."""
    assert isinstance(error, RowrelayError)  # noqa: S101 - what it was added for
    if isinstance(error, NotAuthenticated) and not _for_a_program(request):
        return pages.to_login(request)
    return await _as_page(request, problems.of_error(error))


async def _invalid(request: Request, error: Exception) -> Response:
    return await _as_page(request, await problems.invalid(request, error))


async def _http(request: Request, error: Exception) -> Response:
    return await _as_page(request, await problems.http(request, error))


async def _as_page(request: Request, found: problems.ProblemResponse) -> Response:
    """A problem, as a page where a person asks."""
    if _for_a_program(request):
        return found
    return await pages.error_page(request, found)


def _for_a_program(request: Request) -> bool:
    return request.url.path.startswith(("/api/", "/health", "/metrics"))
