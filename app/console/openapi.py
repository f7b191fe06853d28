"""The API's description (OpenAPI 3.1), complete: who may ask how, every problem, and the headers that count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from app.console.problems import MEDIA_TYPE, Problem

Json = dict[str, Any]

SECURITY: Json = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An access token of `POST /api/v1/tokens`, or an API key.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "__Host-rowrelay",
        "description": "A browser's login; `rowrelay` over plain HTTP on loopback.",
    },
}
IDEMPOTENCY_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    "description": "The same key and request within a day is done once, and answered the same.",
}
ETAG: Json = {"description": "The version, for If-Match.", "schema": {"type": "string"}}
SECONDS: Json = {"description": "In how many seconds to come again.", "schema": {"type": "integer"}}
ASKS_FOR: Json = {"description": "What to send.", "schema": {"type": "string"}}

REFUSED = {
    "400": "The body is no text in UTF-8.",
    "401": "Nobody is logged in, or the token is not valid any more.",
    "403": "Not permitted to this role; or another site's page asks.",
    "404": "There is none of that id.",
    "409": "It contradicts what is there, or is under way.",
    "412": "It was changed meanwhile: read it again.",
    "413": "More than 1 MB is sent.",
    "422": "A value cannot be taken: `errors` says which.",
    "428": "If-Match is missing.",
    "429": "Too many attempts.",
    "503": "A server behind the console is away: try again shortly.",
}


def describe(app: FastAPI) -> None:
    """Let the application describe itself so."""
    plain = app.openapi

    def described() -> Json:
        if app.openapi_schema is None:
            _complete(plain())
        assert app.openapi_schema is not None  # noqa: S101 - what FastAPI keeps it in
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign] # how FastAPI wants it


def _complete(spec: Json) -> None:
    schemas: Json = spec["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own, which is never sent
        schemas.pop(name, None)
    own = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= own.pop("$defs")
    schemas["Problem"] = own
    spec["components"]["securitySchemes"] = SECURITY
    spec["security"] = [{"bearer": []}, {"session": []}]
    versioned = {path for path, method, operation in _operations(spec) if _takes_version(operation)}
    for path, method, operation in _operations(spec):
        _require_version(operation)
        _tell_problems(path, method, operation)
        if method == "post" and operation.get("security") != []:
            operation.setdefault("parameters", []).append(IDEMPOTENCY_KEY)
        if path in versioned and method in {"get", "patch", "put"}:
            _ok(operation)["headers"] = {"ETag": ETAG}


def _operations(spec: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in spec["paths"].items():
        if path.startswith("/api/"):
            for method, operation in methods.items():
                yield path, method, operation


def _takes_version(operation: Json) -> bool:
    return any(one["name"] == "if-match" for one in operation.get("parameters", ()))


def _require_version(operation: Json) -> None:
    """That it is missing has an answer of its own (428, RFC 6585), so FastAPI is told that it is
    optional."""
    for one in operation.get("parameters", ()):
        if one["name"] == "if-match":
            one["required"] = True
            one["schema"] = {"type": "string", "pattern": '^"[0-9]{1,9}"$'}


def _ok(operation: Json) -> Json:
    status = next(status for status in operation["responses"] if status.startswith("2"))
    found: Json = operation["responses"][status]
    return found


def _tell_problems(path: str, method: str, operation: Json) -> None:
    statuses = {"401", "403", "422", "503"}
    statuses |= {status for status in operation["responses"] if status in REFUSED}
    if "{" in path:
        statuses.add("404")
    if method != "get":
        statuses |= {"409", "413"}
    if "requestBody" in operation:
        statuses.add("400")
    if _takes_version(operation):
        statuses |= {"412", "428"}
    if path.endswith(("/tokens", "/password")):
        statuses.add("429")
    for status in sorted(statuses):
        operation["responses"][status] = _problem(status)


def _problem(status: str) -> Json:
    told: Json = {
        "description": REFUSED[status],
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if status == "401":
        told["headers"] = {"WWW-Authenticate": ASKS_FOR}
    if status in {"429", "503"}:
        told["headers"] = {"Retry-After": SECONDS}
    return told
