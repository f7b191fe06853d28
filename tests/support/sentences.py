"""The sentences that pages take from Python: read from the sources, as gettext has them.

Each stands once, where it is made: `f"feed {name} is paused: {why}"` there is `feed %(name)s is paused:
%(why)s` for translators.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from app.console.sentences import LEAST_WORDS, words_in

APP = Path(__file__).parents[2] / "app"

SOURCES = (
    "console/**/*.py", "operations/*.py", "core/certificates.py", "core/clock.py", "core/cursors.py",
    "core/errors.py", "core/wrong_values.py", "configuration/configured.py", "delivery/deliver.py",
    "delivery/policy.py", "delivery/refusals.py", "delivery/sending.py", "feeds/cursors/*.py",
    "feeds/duration.py", "feeds/feed.py", "intake/unreadable.py", "jobs/*.py", "ledger/deliveries.py",
    "ledger/delivery_documents.py", "ledger/operator_moves.py", "ledger/picking.py", "ledger/selection.py",
    "ledger/stats.py", "ledger/unconfigured.py", "monitoring/health.py", "notifications/conditions.py",
    "notifications/notification.py", "partner/exchange.py", "partner/failures.py", "partner/incoming.py",
    "partner/route.py", "partner/success.py", "partner/throttle/throttle.py", "reads/difference.py",
    "reads/jobs.py", "reads/subject.py", "reconcile/standing.py", "reports/table.py", "sending/addresses.py",
    "sending/webhook.py", "source/broken.py", "source/catalogue.py", "source/columns.py",
    "source/cursors/identity.py", "source/cursors/keyset.py", "source/cursors/rowversion.py",
    "source/cursors/strategy.py", "source/cursors/timestamp.py", "source/fetch.py", "source/lookup.py",
    "source/pages.py", "source/payload.py", "source/plan.py", "source/engine.py",
    "source/products/mssql/errors.py", "broker/depths.py", "ledger/client.py", "ledger/error_text.py",
)  # fmt: skip
"""What pages show of `app/`: refusals, and reasons of ours that the ledger keeps."""
NOT_SHOWN = frozenset(
    {
        "console/app.py", "console/csv_text.py", "console/metrics.py", "console/openapi.py", "console/serve.py",
        "console/tracing.py", "console/words.py", "console/deliveries/exporting.py",
        "console/security/access_tokens.py", "console/store/base.py", "console/store/engine.py",
        "console/store/migrate.py", "operations/adopt.py", "operations/trial.py",
        "console/idempotency/service.py", "feeds/cursors/change_tracking.py",
    }
)  # fmt: skip
"""Of these: what a program, the log or the command line is told alone."""

NOT_SAID = frozenset(
    {"gettext", "N_", "text", "compile", "Field", "Query", "Header", "Path", "Path_"}
)
"""Calls whose texts are no sentences, or are extracted by themselves."""
TOLD_WHOLE = frozenset({"Happened", "_happened"})
"""Calls of which a single word is a sentence, too."""
_NO_SENTENCE = re.compile(
    r"^/|^[a-z]+/|^\w+[-=]\S*; |^(?:GET|ETag|Authorization), |'(?:self|none)'|SELECT|^camera=|^Bearer |^attachment; "
    r"|^no-cache|^python -m|^celery "
)
"""What is no sentence: addresses, headers, commands."""
OF_PROGRAMS = frozenset(
    {
        "Tiếng Việt", "nobody has this password", "Refused: why, and what to do.", "the ref of a delivery",
        "The console, or a server behind it, cannot answer now.", "%(name)s from %(had)s to %(now)s",
        "Value error, ", "dead letters", "api key", "does not support retryable writes",
        "etryable writes are not supported", "requires authentication", "full error:",
        "Can't open lib", "certificate verify failed",
    }
)  # fmt: skip
"""Texts of these sources that no page shows."""


def sentences() -> Iterator[str]:
    """All of them, as `%(name)s` has their values."""
    for pattern in SOURCES:
        for path in sorted(APP.glob(pattern)):
            place = path.relative_to(APP).as_posix()
            if place not in NOT_SHOWN and "/migrations/" not in place:
                yield from _of(ast.parse(path.read_text(encoding="utf-8")))


def refusals() -> Iterator[tuple[str, str]]:
    """What the console and operations raise with a text of its own: (where, the text as above)."""
    for pattern in ("console/**/*.py", "operations/*.py"):
        for path in sorted(APP.glob(pattern)):
            place = path.relative_to(APP).as_posix()
            if place in NOT_SHOWN:
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                    for said in node.exc.args[:1]:
                        if isinstance(said, (ast.Constant, ast.JoinedStr)):
                            yield from ((f"{place}:{node.lineno}", one) for one in _texts(said))


def _of(tree: ast.Module) -> Iterator[str]:
    silent, whole = _silent(tree)
    for node in ast.walk(tree):
        if node in silent or not isinstance(node, (ast.Constant, ast.JoinedStr)):
            continue
        for text in _texts(node):
            sentence = text.strip(" ;,")
            if (node in whole and text) or _is_sentence(sentence):
                yield sentence


def _is_sentence(text: str) -> bool:
    return (
        " " in text
        and words_in(text) >= LEAST_WORDS
        and text not in OF_PROGRAMS
        and not _NO_SENTENCE.search(text)
    )


def _silent(tree: ast.Module) -> tuple[set[ast.AST], set[ast.AST]]:
    """Texts that nobody is told; and those of calls that are told whole."""
    silent: set[ast.AST] = set()
    whole: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            silent.add(node.value)  # a docstring
        elif isinstance(node, ast.JoinedStr):
            silent.update(_parts_of(node))
        elif isinstance(node, ast.AnnAssign):
            silent.update(ast.walk(node.annotation))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for one in node.decorator_list:
                silent.update(ast.walk(one))
        elif isinstance(node, ast.Call):
            named = ast.unparse(node.func)
            if named.startswith("log.") or named.rpartition(".")[2] in NOT_SAID:
                silent.update(
                    part for one in (*node.args, *node.keywords) for part in ast.walk(one)
                )
            elif named.rpartition(".")[2] in TOLD_WHOLE:
                whole.update(node.args)
    return silent, whole


def _parts_of(text: ast.JoinedStr) -> Iterator[ast.AST]:
    """What an f-string is made of, but for its values."""
    for part in text.values:
        if isinstance(part, ast.FormattedValue):
            yield from ast.walk(part.format_spec) if part.format_spec else ()
        else:
            yield part


def _texts(node: ast.Constant | ast.JoinedStr) -> list[str]:
    """The text; several, where a part of it is one of two."""
    if isinstance(node, ast.Constant):
        return [_braces(node.value)] if isinstance(node.value, str) else []
    names: dict[str, str] = {}
    parts = [_part(one, names) for one in node.values]
    return ["".join(one) for one in product(*parts)]


def _part(part: ast.expr, names: dict[str, str]) -> list[str]:
    if isinstance(part, ast.Constant):
        return [str(part.value).replace("%", "%%")]
    assert isinstance(part, ast.FormattedValue)
    inner = part.value
    if isinstance(inner, ast.IfExp) and all(
        isinstance(one, ast.Constant) for one in (inner.body, inner.orelse)
    ):
        return [
            str(one.value) for one in (inner.body, inner.orelse) if isinstance(one, ast.Constant)
        ]
    text = ast.unparse(inner)
    if text not in names:
        names[text] = _name(inner, set(names.values()))
    return [f"%({names[text]})s"]


def _name(value: ast.expr, taken: set[str]) -> str:
    """A translator's name for a value, by what it is made of."""
    called = {id(one.func) for one in ast.walk(value) if isinstance(one, ast.Call)}
    found = [
        ast.unparse(one)
        for one in ast.walk(value)
        if isinstance(one, (ast.Name, ast.Attribute)) and id(one) not in called
    ]
    name = (
        re.sub(r"\W+", "_", found[0] if found else "value")
        .removeprefix("self_")
        .removesuffix("_value")
        .strip("_")
        .lower()
    )
    while name in taken:
        name += "_2"
    return name


def _braces(text: str) -> str:
    """What `str.format` fills in."""
    return re.sub(r"\{(\w*)\}", lambda one: f"%({one[1] or 'value'})s", text.replace("%", "%%"))
