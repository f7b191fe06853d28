"""`/health`: for load balancers and Docker, without login."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import JSONResponse

from app.console.dependencies import Given
from app.console.schemas import Schema

router = APIRouter(prefix="/health", tags=["health"])


class LiveShown(Schema):
    """It lives."""

    live: bool


class ReadyShown(Schema):
    """Whether it can answer, and what cannot be reached."""

    ready: bool
    database: bool
    ledger: bool


@router.get("/live")
async def live() -> LiveShown:
    """Whether the process answers at all."""
    return LiveShown(live=True)


@router.get("/ready", responses={503: {"model": ReadyShown}})
async def ready(given: Given) -> JSONResponse:
    """Whether pages can be answered: database and ledger do."""
    found = await given.health.ready()
    shown = ReadyShown(ready=found.ready, database=found.database, ledger=found.ledger)
    return JSONResponse(shown.model_dump(), 200 if found.ready else 503)
