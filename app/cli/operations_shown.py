"""How commands show an operation in bulk: as JSON, and for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from app.cli.tables import ago, print_fields, print_table
from app.cli.terminal import print_json
from app.core.keys import shown_id, shown_key
from app.core.operations import MOVED, ClosingSum, Operation, OperationKind
from app.ledger.operations import InSet
from app.operations.bulk import BulkPreview
from app.reads.deliveries import line_of


def fields_of(operation: Operation) -> dict[str, object]:
    """An operation for programs."""
    plain = (
        "id", "kind", "feed", "state", "chosen", "by", "why", "created_at", "started_at", "finished_at",
        "asked", "phase", "round", "size", "gone_through", "moved", "skipped", "waiting", "version",
    )  # fmt: skip
    return {name: getattr(operation, name) for name in plain} | {
        **asdict(operation.pace),
        "worker": operation.lease.worker if operation.lease else None,
        "paused": asdict(operation.paused) if operation.paused else None,
        "closing": _closing(operation.closing) if operation.closing else None,
        "history": [asdict(one) for one in operation.history],
    }


def _closing(closing: ClosingSum) -> dict[str, object]:
    return asdict(closing) | {"moved": closing.outcomes.get(MOVED, 0), "balances": closing.balances}


def row_of(operation: Operation) -> list[object]:
    """An operation in a table."""
    return [
        operation.id, operation.kind, operation.feed, operation.state, operation.moved, operation.size,
        operation.by, f"{ago(operation.created_at)} ago", operation.why,
    ]  # fmt: skip


def print_operation(operation: Operation) -> None:
    """An operation for people."""
    pace, paused = operation.pace, operation.paused
    told: dict[str, object] = {
        "operation": f"{operation.id}: {operation.kind}, feed {operation.feed}",
        "state": operation.state if paused is None else f"{operation.state}: {paused.because}",
        "why": operation.why,
        "rate": pace.rate,
    }
    if pace.canary:
        told["canary"] = pace.canary
    if pace.stop_ratio is not None:
        told["stops at failures above"] = f"{pace.stop_ratio:.0%}"
    if operation.waiting:
        told["waits"] = operation.waiting
    told["in the set"] = operation.size
    if operation.closing is None:
        told |= {"acted on": operation.moved, **_skipped(operation.skipped)}
    print_fields(told)
    if operation.closing:
        _print_closing(operation.closing)
    rows = [[f"{one.at:%Y-%m-%d %H:%M:%S}", one.what, one.by, one.why] for one in operation.history]
    print_table("History, UTC", ["when", "what", "by", "why"], rows)


def _print_closing(closing: ClosingSum) -> None:
    outcomes = dict(closing.outcomes)
    moved = outcomes.pop(MOVED, 0)
    told: dict[str, object] = {"acted on": f"{moved} of {closing.size}", **_skipped(outcomes)}
    if closing.unreached:
        told["not reached"] = closing.unreached
    told["others"] = "not found out in time" if closing.others is None else closing.others
    told |= {f"now {state}": count for state, count in closing.states.items() if count}
    print_fields(told)


def _skipped(counts: Mapping[str, int]) -> dict[str, object]:
    return {f"skipped: {why}": count for why, count in counts.items()}


def print_preview(kind: OperationKind, found: BulkPreview, *, as_json: bool) -> None:
    """What an operation would be about."""
    if as_json:
        print_json(
            {
                "kind": kind,
                "feed": found.feed,
                "states": found.selection.states,
                "count": found.count.number if found.count else None,
                "count_exact": bool(found.count and found.count.exact),
                "skipped": found.skipped,
                "sample": found.sample,
            }
        )
        return
    rows = [
        [shown_id(one), one["state"], one["attempts"], ago(one["created_at"]), line_of(one).said]
        for one in found.sample
    ]  # fmt: skip
    print_table("A few of them", ["id", "state", "attempts", "logged", "last"], rows)
    print_fields({"selected": _counted(found), **_skipped(found.skipped or {})})


def _counted(found: BulkPreview) -> str:
    if found.count is None:
        return "more than were counted in time"
    return f"{found.count.number}{'' if found.count.exact else ' or more'}"


def print_set(rows: Sequence[InSet]) -> None:
    """A frozen set, in the order in which it is gone through."""
    told = [[shown_key(one.id), one.state, one.outcome or "not reached"] for one in rows]
    print_table("The set", ["id", "was", "what became of it"], told, whole=1)
