"""From what was read of feeds to what the API gives."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from app.console.feeds.overview import Line, Overview
from app.console.feeds.schemas import (
    CertificateShown,
    FailingShown,
    FeedDetail,
    FeedLine,
    FlowShown,
    GapShown,
    LatencyShown,
    OverviewShown,
    PauseShown,
    PreviewShown,
    ProcessShown,
    RewindShown,
    SettingShown,
    StepShown,
)
from app.console.feeds.service import Detail, Previewed, RewindCounted
from app.core.certificates import Certificate
from app.core.cursors import Cursor
from app.operations.pause import Resumed
from app.operations.rewind import Rewound
from app.reads.history import Step
from app.reads.processes import Process
from app.reads.status import Failing

GAPS = 100


def overview_shown(found: Overview) -> OverviewShown:
    """Everything."""
    failing = [FailingShown.model_validate(one) for one in failing_of(found)]
    return OverviewShown(
        at=found.at,
        feeds=[line_shown(line) for line in found.lines],
        processes=[process_shown(one) for one in found.processes],
        failing=failing,
        untold=found.status.untold,
    )


def failing_of(found: Overview) -> list[Failing]:
    """What fails besides a feed's polls, the console itself included."""
    because = found.configured.kept_because
    kept = f"goes on with the feeds.toml that it has: what it finds cannot be used: {because}"
    return [*found.status.failing, *([Failing("console", kept)] if because else [])]


def line_shown(line: Line) -> FeedLine:
    """One feed's line."""
    status = line.status
    return FeedLine(
        name=status.feed,
        configured=status.configured,
        state=status.state.stand,
        until=status.state.until,
        paused=status.stopped,
        open=status.open,
        sending=status.sending,
        oldest_open_at=status.oldest_open,
        dead=line.dead,
        lag_rows=status.lag_rows,
        gaps=status.gaps,
        last_poll_at=status.last_poll_at,
        last_error=status.last_error,
        delivered_a_second=round(status.flow.delivered, 3),
        done_in_seconds=status.done_in_seconds,
        delivered_last_hour=line.delivered,
        failed_last_hour=line.failed,
        hour=[_flow(step) for step in line.hour],
    )


def process_shown(one: Process) -> ProcessShown:
    """A worker or beat."""
    return ProcessShown(
        name=one.heartbeat.name,
        role=one.health.role,
        live=one.health.live,
        ready=one.health.ready,
        problems=one.health.problems,
        waits_for=one.health.waits_for,
        heard_at=one.heartbeat.marked_at,
    )


def detail_shown(found: Detail) -> FeedDetail:
    """One feed."""
    line = found.overview.line(found.status.feed)
    assert line is not None  # noqa: S101 - the detail is of it
    return FeedDetail(
        feed=line_shown(line),
        polled=not found.cursor.paused,
        sent=found.cursor.sends,
        position=position_shown(found.cursor),
        noted=found.status.noted,
        notices=found.status.notices,
        gaps=[GapShown.model_validate(gap) for gap in found.cursor.gaps[:GAPS]],
        certificate=_certificate(found.certificate),
        configuration=[SettingShown.model_validate(one) for one in found.configuration],
        range=found.range,
        history=steps_shown(found.history),
    )


def position_shown(cursor: Cursor) -> str:
    """Where it stands: of a position of several parts, the cursor column's."""
    position = cursor.position
    leading = position[0] if isinstance(position, list) else position
    return "" if leading is None else str(leading)


def steps_shown(steps: Sequence[Step]) -> list[StepShown]:
    """A history."""
    return [
        StepShown(
            at=step.at,
            logged=step.counts.logged,
            delivered=step.counts.delivered,
            retry=step.counts.retry,
            unknown=step.counts.unknown,
            dead=step.counts.dead,
            delivered_ms=LatencyShown.model_validate(step.delivered_ms),
            attempt_ms=LatencyShown.model_validate(step.attempt_ms),
        )
        for step in steps
    ]


def preview_shown(found: Previewed) -> PreviewShown:
    """A request."""
    request = found.request
    return PreviewShown(
        row_from=found.subject.found_in,
        delivery=found.subject.shown,
        sent=request.sent,
        reason=request.unsent,
        method=request.method,
        url=request.url,
        headers=dict(request.headers),
        body=request.body,
        masked=found.masked,
    )


def pause_shown(found: Resumed) -> PauseShown:
    """What came of a pause or a resume."""
    cursor = found.cursor
    return PauseShown(
        name=cursor.feed,
        changed=found.changed,
        polled=not cursor.paused,
        sent=cursor.sends,
        paused=cursor.stopped,
    )


def counted_shown(found: RewindCounted) -> RewindShown:
    """What a rewind would do."""
    counted = found.counted
    return RewindShown(
        name=counted.feed,
        done=False,
        stood=counted.stood,
        stands=counted.stands,
        rows=counted.rows,
        known=counted.known,
        complete=counted.complete,
        delivered_again=counted.delivered_again,
        token=found.token,
        until=datetime.fromisoformat(counted.until),
    )


def rewound_shown(name: str, found: Rewound) -> RewindShown:
    """What a rewind has done."""
    return RewindShown(
        name=name,
        done=True,
        stood=found.stood_said,
        stands=found.stands_said,
        rows=None,
        known=None,
        complete=None,
        delivered_again=None,
        token=None,
        until=None,
    )


def _certificate(found: Certificate | None) -> CertificateShown | None:
    if found is None:
        return None
    return CertificateShown(
        at=found.at, complete=found.complete, account=found.account, remarks=found.remarks
    )


def _flow(step: Step) -> FlowShown:
    counts = step.counts
    return FlowShown(
        at=step.at,
        logged=counts.logged,
        delivered=counts.delivered,
        failed=counts.failed,
        dead=counts.dead,
    )
