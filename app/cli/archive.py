"""`archive verify` and `archive restore`: check archive files, and put their records back into the
ledger.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from app.cli.loading import load_config
from app.cli.purge import PATIENCE_LEASES, progress_bar
from app.cli.servers import with_operator
from app.cli.tables import print_fields, print_table
from app.cli.terminal import FOUND_WRONG, AsJson, console, print_json
from app.core.errors import RowrelayError
from app.retention.archive import file as archive_file
from app.retention.archive.restore import Restored, checked, unreadable
from app.retention.purge_lock import Tell
from app.runtime.operator import Operator

archive = typer.Typer(no_args_is_help=True)

File = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="<feed>-<day>.ndjson.zst; its manifest lies beside it."),
]


@dataclass(frozen=True, slots=True)
class Verified:
    """What came of checking one file."""

    file: str
    records: int | None
    attempts: int | None
    problem: str | None


@archive.command("verify")
def verify_archive(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE…", help="Files such as orders-2026-01-31.ndjson.zst."),
    ],
    as_json: AsJson = False,
) -> None:
    """Check files against their manifests: count, hash, and that each line is a record. Needs no
    ledger.

    Exit code 1 where one is wrong.
    """
    with progress_bar(as_json) as bar:
        found = [_verify(path, bar.of(path.name, _count(path))) for path in files]
    if as_json:
        print_json({"files": [asdict(one) for one in found]})
    else:
        rows = [
            [
                one.file,
                one.records,
                one.attempts,
                "wrong" if one.problem else "as its manifest says",
            ]
            for one in found
        ]
        print_table("Archive files", ["file", "records", "attempts", "result"], rows)
        for one in found:
            if one.problem:
                console.print(f"{one.file}: {one.problem}", soft_wrap=True)
    if any(one.problem for one in found):
        raise typer.Exit(FOUND_WRONG)


@archive.command("restore")
def restore_archive(
    path: File,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count; put nothing back.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put a file's records and attempts back into the ledger; those that are there already stay as
    they are.

    They come back settled: nothing is sent. Their retention counts from now.

    Stopped half-way, the same command goes on.
    """
    loaded = load_config("ERROR")

    async def restore(operating: Operator) -> Restored:
        await operating.ledger.prepare()
        patience = loaded.settings.lease * PATIENCE_LEASES
        return await operating.restoring.restore(
            path, dry_run=dry_run, progress=tell, patience=patience
        )

    with progress_bar(as_json) as bar:
        tell = bar.of(path.name, _count(path))
        restored = with_operator(loaded, restore)
    if as_json:
        print_json(asdict(restored) | {"dry_run": dry_run})
        return
    done = "would be restored" if dry_run else "restored"
    print_fields(
        {
            "file": restored.file,
            "feed": restored.feed,
            done: restored.restored,
            "there": restored.there,
        }
    )


def _verify(path: Path, tell: Tell) -> Verified:
    try:
        contents, _ = checked(path, tell)
    except (RowrelayError, OSError) as error:
        told = error if isinstance(error, RowrelayError) else unreadable(path, error)
        return Verified(str(path), None, None, str(told))
    return Verified(str(path), contents.count, contents.attempts, None)


def _count(path: Path) -> int | None:
    """How many records the manifest speaks of, for the bar; `None` where it says nothing."""
    try:
        said = archive_file.read_manifest(path)
    except (RowrelayError, OSError):
        return None
    return said.count if said else None
