"""`/api/v1/workers`: workers and beat, by their last heartbeats."""

from __future__ import annotations

from fastapi import APIRouter

from app.console.dependencies import By, Given
from app.console.feeds.shown import process_shown
from app.console.workers.schemas import ConfiguredShown, HeldShown, WorkerShown, WorkersShown
from app.ledger.heartbeats import Configured
from app.reads.processes import Process

router = APIRouter(prefix="/workers", tags=["workers"])


@router.get("")
async def list_workers(by: By, given: Given) -> WorkersShown:
    """Workers and beat that were heard of within the last hour, and watchdogs whose checks fail."""
    found = await given.workers.heard(by)
    return WorkersShown(
        at=found.at,
        feeds_hash=found.configured.feeds,
        items=[_shown(one) for one in found.processes],
    )


def _shown(one: Process) -> WorkerShown:
    heard = one.heartbeat
    return WorkerShown(
        **process_shown(one).model_dump(),
        host=heard.host,
        pid=heard.pid,
        started_at=heard.started_at,
        stopping=heard.stopping,
        running=heard.running,
        taken=heard.taken,
        queues=heard.queues,
        holds=[HeldShown.model_validate(held) for held in heard.holds],
        clock_seconds=heard.clock_seconds,
        configuration=_configured(heard.configuration),
    )


def _configured(found: Configured | None) -> ConfiguredShown | None:
    if found is None:
        return None
    return ConfiguredShown(
        feeds_hash=found.feeds,
        read_at=found.read_at,
        kept_since=found.kept_since,
        kept_because=found.kept_because,
        left=found.left,
    )
