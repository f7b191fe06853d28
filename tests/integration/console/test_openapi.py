"""The API keeps what its description says: schemathesis asks every operation what it allows and what not.

A deeper run: CONSOLE_SCHEMATHESIS_EXAMPLES=200 (examples an operation, of each kind; 3 otherwise).
"""

from __future__ import annotations

import asyncio
import copy
import os
from collections.abc import Iterator
from typing import Any

import httpx
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.config import SchemathesisConfig

from app.console.security.roles import Role
from tests.support.console import URL, Consoled

EXAMPLES = int(os.environ.get("CONSOLE_SCHEMATHESIS_EXAMPLES", "3"))
OF_THE_REQUEST = frozenset({"400", "403", "413", "422", "428"})
"""Refusals of what is not valid. That a cursor is one of ours, a time zone is one that there is, and a text is of one
line, a schema cannot say: 422 is an answer to what it takes, too."""
ELSEWHERE = ("ignored_auth", "use_after_free", "ensure_resource_availability", "unsupported_method")
"""Checks that send requests of their own, through a socket: test_roles.py and others hold these."""


async def test_every_operation_answers_as_it_is_described(console: Consoled) -> None:
    admin, loop = await console.logged_in(Role.ADMIN), asyncio.get_running_loop()
    console.services.feeds.live.end()  # so that the stream of events has an end
    schema = _schema(console)
    wrong: list[str] = []

    def ask(case: Any) -> httpx.Response:
        return asyncio.run_coroutine_threadsafe(_send(admin, case), loop).result(60)

    def ask_all() -> None:
        for found in schema.get_all_operations():
            operation = found.ok()
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                try:
                    _fuzz(operation, mode, ask)
                except Unsatisfiable:
                    assert mode is GenerationMode.NEGATIVE, "only an operation without parameters"
                except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - all of it is told
                    wrong.append(f"{operation.label} {mode.name}: {_told(error)}")

    await asyncio.to_thread(ask_all)
    assert not wrong, "\n\n".join(wrong)


def _schema(console: Consoled) -> Any:
    spec = copy.deepcopy(console.app.openapi())
    spec.pop(
        "security"
    )  # who asks is no question here: a credential of its own would say 401 to all
    spec["components"].pop("securitySchemes")
    config = SchemathesisConfig.from_dict({"operations": list(_expected(spec))})
    schema = schemathesis.openapi.from_dict(spec, config=config)
    schema.config.update(base_url=URL)
    return schema


def _expected(spec: Any) -> Iterator[dict[str, Any]]:
    """Of each operation: what it may answer to what its schema takes, and to what not, is what it is
    described to answer, and nothing else."""
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            refusals = {status for status in operation["responses"] if status.startswith("4")}
            taken = refusals - OF_THE_REQUEST | {"422"}
            expected = {
                "positive_data_acceptance": ["2xx", *sorted(taken)],
                "missing_required_header": sorted(refusals & {"401", *OF_THE_REQUEST}),
                "negative_data_rejection": sorted(refusals),
            }
            checks = {name: {"expected-statuses": codes} for name, codes in expected.items()}
            yield {"include-name": f"{method.upper()} {path}", "checks": checks}


def _fuzz(operation: Any, mode: GenerationMode, ask: Any) -> None:
    load_all_checks()
    excluded = [CHECKS.get_one(name) for name in ELSEWHERE]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        derandomize=EXAMPLES == 3,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def one(case: Any) -> None:
        try:
            answer = ask(case)
        except httpx.InvalidURL:  # longer than httpx sends
            return
        try:
            case.validate_response(answer, excluded_checks=excluded)
        except BaseExceptionGroup as error:
            sent = f"{answer.request.url} {case.body!r} -> {answer.status_code} {answer.text[:300]}"
            raise AssertionError(f"{_told(error)}\n{sent}") from error

    one()


async def _send(client: httpx.AsyncClient, case: Any) -> httpx.Response:
    """As it would be sent through a socket, with the session's cookie."""
    made = requests.Request(**case.as_transport_kwargs(base_url=URL)).prepare()
    headers = [
        (_bytes(name), _bytes(value))
        for name, value in made.headers.items()
        if name.lower() != "cookie"
    ]
    body = _bytes(made.body) if isinstance(made.body, (str, bytes)) else None
    return await client.request(made.method or "", made.url or "", headers=headers, content=body)


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def _told(error: BaseException) -> str:
    inner = getattr(error, "exceptions", ())
    said = "; ".join(map(_told, inner)) if inner else f"{type(error).__name__}: {error}"
    return said.encode("ascii", "backslashreplace").decode()[:2000]


def test_every_problem_and_header_is_described(console: Consoled) -> None:
    spec = console.app.openapi()
    assert "HTTPValidationError" not in str(spec)
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            if path.startswith("/api/"):
                responses = operation["responses"]
                assert {"401", "403", "422", "503", "5XX"} <= responses.keys(), (method, path)
                assert "4XX" not in responses, "each refusal is described by itself"
                assert operation["summary"], (method, path)
    change = spec["paths"]["/api/v1/users/{user_id}"]["patch"]
    assert {"404", "409", "412", "428"} <= change["responses"].keys()
    assert "ETag" in change["responses"]["200"]["headers"]
    login = spec["paths"]["/api/v1/tokens"]["post"]
    assert login["security"] == []
    logout = spec["paths"]["/api/v1/tokens/revoke"]["post"]
    assert logout["security"] == [{}, {"bearer": []}], "the refresh token in the body is enough"
    assert "Retry-After" in login["responses"]["429"]["headers"]
