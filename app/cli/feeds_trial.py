"""`feeds test`: one row as a delivery would send it; where asked it is sent, and what the answer
means is said.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from http import HTTPStatus
from typing import Annotated

import typer

import config
from app.cli.feeds_preview import print_request, request_fields, subject_of
from app.cli.loading import configured_feed, load_config
from app.cli.servers import operator, run
from app.cli.terminal import FOUND_WRONG, WRONG_USAGE, AsJson, fail, print_json, warn
from app.core.attempts import RESPONSE_LIMIT, Answer, Ruling, Verdict
from app.core.clock import utc_now
from app.core.errors import ConfigError
from app.core.shown import plain, plain_lines
from app.core.states import State
from app.delivery.deliver import Delivering
from app.feeds.feed import Feed
from app.operations.by import By
from app.operations.trial import Tried
from app.partner.request import Prepared, prepare
from app.reads.preview import RequestPreview, preview_request
from app.reads.subject import Subject
from app.runtime.operator import open_operator


def try_row(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    *,
    key: Annotated[
        str | None,
        typer.Option(
            help="The row's key, as in the source, or its delivery's id; else the newest."
        ),
    ] = None,
    send: Annotated[
        bool, typer.Option("--send", help="Send it, and show the answer and what it would mean.")
    ] = False,
    record: Annotated[
        bool, typer.Option("--record", help="As an attempt of its delivery, on record.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the request for one row, or send it and show the answer. Records nothing unless told to.

    Exit code 0 where the partner took the row (without --send: where it can be sent), else 1.
    """
    if record and not send:
        fail("--record goes with --send", WRONG_USAGE)
    loaded = load_config("ERROR")
    feed = configured_feed(loaded, name)
    try:
        prepared = prepare(feed)
    except ConfigError as error:
        fail(str(error), WRONG_USAGE)
    subject = run(subject_of(loaded, feed, key))
    previewed = preview_request(prepared, subject)
    if not as_json:
        _print_subject(subject)
        print_request(previewed, RESPONSE_LIMIT)
    tried = None
    if send:
        _confirm(prepared, subject, yes, again=subject.state is State.DELIVERED and not record)
        tried = run(_try(loaded, feed, subject, record=record))
    if as_json:
        print_json(_described(subject, previewed, tried))
    elif tried:
        _print_tried(tried)
    if not (tried.delivered if tried else previewed.sent):
        raise typer.Exit(FOUND_WRONG)


async def _try(loaded: config.Config, feed: Feed, subject: Subject, *, record: bool) -> Tried:
    async with open_operator(loaded) as operating:
        trial, informed = await operating.trial(feed)
        if not informed:
            warn("Redis does not answer, so it is not known whether the endpoint is left alone")
        if not record:
            return await trial.send(subject)

        def begun(delivering: Delivering) -> None:
            asyncio.get_running_loop().add_signal_handler(
                signal.SIGINT, delivering.drain, loaded.settings.shutdown_grace
            )

        return await trial.record(subject, By(operator()), begun)


def _confirm(prepared: Prepared, subject: Subject, yes: bool, *, again: bool) -> None:
    """Ask a person before a partner gets a row. A program is not asked, but must say `--yes` where
    it gets one `again`."""
    known = ", which has it already" if again else ""
    if yes:
        return
    if not _asks():
        if again:
            fail(
                f"{subject.shown}: would go to {prepared.url.host}{known}; to send it again: --yes",
                WRONG_USAGE,
            )
        return
    if not typer.confirm(f"Send {subject.shown} to {prepared.url.host}{known}?", err=True):
        raise typer.Exit(FOUND_WRONG)


def _asks() -> bool:
    """Whether somebody is there to answer."""
    return sys.stdin.isatty()


def _print_subject(subject: Subject) -> None:
    state = f", {subject.state.value}" if subject.state else ", not logged yet"
    typer.echo(f"# {subject.shown}: row from the {subject.found_in}{state}")


def _print_tried(tried: Tried) -> None:
    if tried.answer:
        _print_answer(tried.answer, tried.verdict.reason if tried.verdict else "")
    if tried.unsent:
        typer.echo(f"\n# nothing was sent: {tried.unsent}")
    if tried.answer and tried.verdict:
        typer.echo(f"\n# verdict: {_said(tried.answer, tried.verdict)}")
        recorded = "on record as an attempt" if tried.recorded else "nothing was recorded"
        typer.echo(f"# {recorded}")


def _print_answer(answer: Answer, reason: str) -> None:
    """What came, but for what the verdict's reason says anyway."""
    typer.echo(f"\n# after {answer.duration_ms} ms")
    if answer.status is not None:
        typer.echo(f"HTTP {answer.status} {_phrase(answer.status)}".rstrip())
        for name, value in answer.headers.items():
            typer.echo(f"{name}: {plain(value)}")
    if answer.body:
        typer.echo("\n" + "\n".join(f"  {line}" for line in plain_lines(answer.body).split("\n")))
    for told in (answer.error, answer.note):
        if told and told not in reason:
            typer.echo(f"# {plain(told)}")


def _said(answer: Answer, verdict: Verdict) -> str:
    """What would follow, in a line."""
    said = plain(verdict.reason)
    follows = verdict.outcome.value
    if answer.ruling is Ruling.OURS:
        follows = "not sent, for want of something of our own"
    if verdict.next_attempt_at:
        seconds = max(0.0, (verdict.next_attempt_at - utc_now()).total_seconds())
        follows += f"; again in about {seconds:.0f} s"
    pause = f"; the feed is paused: {plain(verdict.pause_reason)}" if verdict.pause_reason else ""
    hold = "; nothing is sent to this endpoint until then" if verdict.hold_until else ""
    return f"{follows}: {said}{hold}{pause}"


def _described(
    subject: Subject, previewed: RequestPreview, tried: Tried | None
) -> dict[str, object]:
    """For programs."""
    answer, verdict = (tried.answer, tried.verdict) if tried else (None, None)
    return {
        "delivery": subject.delivery.id,
        "row_from": subject.found_in,
        "state": subject.state,
        "request": request_fields(previewed),
        "sent": answer is not None and _reached_out(answer),
        "refused": tried.unsent if tried else None,
        "answer": answer,
        "verdict": verdict,
        "recorded": bool(tried and tried.recorded),
    }


def _reached_out(answer: Answer) -> bool:
    """Whether anything was sent: not where a local resource is missing, or no request could be made
    of the row.
    """
    return answer.made


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
