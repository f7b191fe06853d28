"""`console`: serves the operator console, and manages its database from a shell."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from app.cli.loading import load_config
from app.cli.servers import errors_told, open_queue, operator
from app.cli.terminal import FOUND_WRONG, AsJson, fail, print_json
from app.cli.terminal import console as out

if TYPE_CHECKING:
    from app.console.services import Services

T = TypeVar("T")

console = typer.Typer(no_args_is_help=False)
audit = typer.Typer(no_args_is_help=True)
console.add_typer(audit, name="audit", help="The audit log.")


@console.callback(invoke_without_command=True)
def serve(context: typer.Context) -> None:
    """Serve the operator console: web pages, and the API under /api/v1."""
    if context.invoked_subcommand is not None:
        return
    from app.configuration.loaded import Loaded  # noqa: PLC0415 - commands load what they use
    from app.console.serve import serve as serve_console  # noqa: PLC0415 - as above

    loaded = Loaded(load_config("INFO"))
    with errors_told():
        serve_console(
            loaded,
            lambda: open_queue(loaded),
            lambda url: out.print(f"The console listens at {url}", soft_wrap=True),
        )


@console.command()
def migrate(
    to: Annotated[
        str, typer.Argument(help="A revision: `head`, `base`, or the number of a migration.")
    ] = "head",
    as_json: AsJson = False,
) -> None:
    """Bring the console's database to the schema of this version, or back to an older one."""
    from app.console.store import engine  # noqa: PLC0415 - as above
    from app.console.store.migrate import migrate as go  # noqa: PLC0415 - as above

    loaded = load_config()

    async def migrating() -> tuple[str | None, str | None]:
        opened = engine.open_engine(loaded.settings)
        try:
            return await go(opened, to)
        finally:
            await opened.dispose()

    with errors_told():
        before, now = asyncio.run(migrating())
    if as_json:
        print_json({"before": before, "now": now})
        return
    out.print(f"schema {now or 'none'}" + ("" if before == now else f", before {before or 'none'}"))


@console.command("add-user")
def add_user(
    name: Annotated[str, typer.Argument(help="As they log in.")],
    role: Annotated[str, typer.Option(help="viewer, operator or admin.")] = "viewer",
    as_json: AsJson = False,
) -> None:
    """Make a user, and print the link with which they set their password, once."""
    from pydantic import ValidationError  # noqa: PLC0415 - as above

    from app.console.security.roles import of_command  # noqa: PLC0415 - as above
    from app.console.users.schemas import NewUser  # noqa: PLC0415 - as above
    from app.core.wrong_values import allowed  # noqa: PLC0415 - as above

    try:
        new = NewUser.model_validate({"name": name, "role": role})
    except ValidationError as error:
        wrong = error.errors()[0]
        fail(f"{wrong['loc'][0]} {wrong['input']!r}: takes {allowed(wrong)}", 2)
    user, link = _with_services(lambda given: given.users.create(of_command(operator()), new))
    if as_json:
        print_json(
            {"name": user.name, "role": user.role, "link": link.url, "expires_at": link.expires_at}
        )
        return
    out.print(
        f"{user.name} is {user.role}. To set the password, once, until {link.expires_at:%Y-%m-%d %H:%M} UTC:"
    )
    out.print(link.url, soft_wrap=True)


Known = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBER:HASH",
        help="An entry as this command printed it earlier: whoever wrote the whole log anew did not have that hash.",
    ),
]


@audit.command()
def verify(*, known: Known = None, as_json: AsJson = False) -> None:
    """Verify that each entry of the audit log is as it was written. Exit code 1 where one is not."""
    from app.console.audit import verification  # noqa: PLC0415 - as above

    noted = None
    if known is not None:
        number, _, digest = known.partition(":")
        if not (number.isascii() and number.isdigit() and len(number) < 19 and len(digest) == 64):
            fail("--known: takes the number and hash that this command printed, as NUMBER:HASH", 2)
        noted = verification.Known(int(number), digest)
    verified = _with_services(lambda given: given.audit.verify(noted))
    if as_json:
        print_json(asdict(verified))
    elif verified.wrong is None:
        out.print(verified.said)
        out.print(f"to be noted elsewhere: {verified.entries}:{verified.last_hash}", soft_wrap=True)
    if verified.wrong is not None:
        fail(f"audit: {verified.said}", FOUND_WRONG)


def _with_services(work: Callable[[Services], Awaitable[T]]) -> T:
    """Do something with the console's services, over its database at this version's schema."""
    from app.configuration.loaded import Loaded  # noqa: PLC0415 - as above
    from app.console.services import open_services  # noqa: PLC0415 - as above

    loaded = load_config()

    async def working() -> T:
        async with open_services(Loaded(loaded), lambda: open_queue(loaded)) as given:
            return await work(given)

    with errors_told():
        return asyncio.run(working())
