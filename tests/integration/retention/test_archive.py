"""The archive: every record that is purged is in exactly one verified file, wherever a purge is
stopped.
"""

from __future__ import annotations

import asyncio
import os
import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import ArchiveDamaged, ArchiveUnavailable
from app.core.states import State
from app.feeds.feed import Rate
from app.ledger import Ledger
from app.ledger.archives import ArchivePart, PartState
from app.ledger.selection import Selection
from app.operations.by import By
from app.operations.replay import Replaying
from app.retention.archive import file
from app.retention.archive.restore import Restored, Restoring
from app.retention.purge_lock import PurgeLock
from tests.support.doubles import MemoryQueue, VirtualClock
from tests.support.retention import LEASE, Shelf, attempt_ids, kept_feed
from tests.support.steps import Crashed, Fate, Kind, Steps

FEED = kept_feed(payload_days=30)


@pytest.fixture
async def shelf(ledger: Ledger, tmp_path: Path) -> Shelf:
    return Shelf(ledger, VirtualClock(), tmp_path, {"orders": FEED})


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    for bound in ("SIZE_LIMIT", "_FIRST_SIZE", "_LEAST_SIZE"):
        monkeypatch.setattr(f"app.retention.pace.{bound}", 2)


async def test_a_day_goes_into_one_file_whole_and_only_then_leaves_the_ledger(shelf: Shelf) -> None:
    day = shelf.ago(days=40).replace(hour=0)
    for key, hours in enumerate((0, 5, 23.9, 24)):
        await shelf.add(key, day + timedelta(hours=hours))
    await shelf.add("cancelled", day, State.CANCELLED, reason="cancelled by ada")
    before = [await shelf.get(key) for key in (0, "cancelled")]
    purged = await shelf.purging().purge(FEED)
    names = [f"orders/orders-{one.date()}.ndjson.zst" for one in (day, day + timedelta(days=1))]
    assert purged.files == names
    assert (purged.records, purged.attempts) == (5, 10)
    assert await shelf.ids() == await shelf.attempts_left() == set()
    records = shelf.archived()
    assert [records["orders:0"].delivery, records["orders:cancelled"].delivery] == before
    assert attempt_ids([records["orders:0"]]) == {"orders:0#aa", "orders:0#bb"}
    contents = file.read_manifest(shelf.files()[0])
    assert contents is not None
    assert (contents.count, contents.attempts, contents.first_id, contents.last_id) == (
        4, 8, "orders:0", "orders:cancelled",
    )  # fmt: skip


async def test_only_their_owner_can_read_the_files(shelf: Shelf) -> None:
    await shelf.add(1, shelf.ago(days=40))
    await shelf.purging().purge(FEED)
    (path,) = shelf.files()
    assert [stat.S_IMODE(one.stat().st_mode) for one in (path, file.manifest_path(path))] == [
        0o600,
        0o600,
    ]
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_wherever_it_dies_every_purged_record_is_in_exactly_one_verified_file(
    shelf: Shelf, small_chunks: None
) -> None:
    """Each query, and each piece of work on a file, is a step; it dies after every one of them."""
    del small_chunks
    step, crashed = 0, True
    while crashed:
        step += 1
        feed = kept_feed(f"orders-{step}", payload_days=30)
        due = {await shelf.add(key, shelf.ago(days=32), feed=feed.name) for key in range(3)}
        due |= {await shelf.add(5, shelf.ago(days=31), State.SKIPPED, feed=feed.name)}
        kept = await shelf.add(9, shelf.ago(days=29), feed=feed.name)
        try:
            await shelf.purging(Steps(Fate(Kind.CRASH, step, after=True))).purge(feed)
            crashed = False
        except Crashed:
            assert await shelf.ids(feed.name) | shelf_ids(shelf, feed.name) >= due | {kept}, (
                "a record is nowhere"
            )
            shelf.clock.advance(2 * LEASE)
        await shelf.purging().purge(feed)
        records = shelf.archived(feed.name)
        assert records.keys() == due
        assert len(attempt_ids(records.values())) == 2 * len(due)
        assert await shelf.ids(feed.name) == await shelf.attempts_left(feed.name) == {kept}
        assert not await shelf.ledger.archives.open(feed.name)
    assert step > 40


def shelf_ids(shelf: Shelf, feed: str) -> set[str]:
    """The ids in files that have their name, manifest or not."""
    assert shelf.archive_dir
    return {
        record.id
        for path in shelf.archive_dir.glob(f"{feed}/{feed}-*.zst")
        for record in file.read(path)
    }


async def test_what_settles_on_a_day_that_is_archived_goes_into_a_second_file(shelf: Shelf) -> None:
    await shelf.add(1, shelf.ago(days=40))
    await shelf.purging().purge(FEED)
    await shelf.add("late", shelf.ago(days=40))
    purged = await shelf.purging().purge(FEED)
    assert [name.removesuffix(".ndjson.zst")[-2:] for name in purged.files] == ["-2"]
    assert shelf.archived().keys() == {"orders:1", "orders:late"}


async def test_a_day_of_more_than_a_file_holds_goes_into_several(shelf: Shelf) -> None:
    for key in range(5):
        await shelf.add(key, shelf.ago(days=40, seconds=-key))
    purged = await shelf.purging(part_limit=2).purge(FEED)
    assert len(purged.files) == 3
    assert len(shelf.archived()) == 5


async def test_two_purges_at_once_write_each_record_once(shelf: Shelf) -> None:
    for key in range(20):
        await shelf.add(key, shelf.ago(days=40 + key % 2))
    await asyncio.gather(*(shelf.purging().purge(FEED) for _ in range(3)))
    assert len(shelf.archived()) == 20


@pytest.mark.parametrize("step", range(1, 60, 3))
async def test_one_that_was_frozen_while_another_purged_does_no_harm(
    shelf: Shelf, step: int
) -> None:
    for key in range(3):
        await shelf.add(key, shelf.ago(days=40))
    steps = Steps(Fate(Kind.FREEZE, step))
    frozen = asyncio.create_task(shelf.purging(steps).purge(FEED))
    thawing = asyncio.create_task(steps.frozen.wait())
    await asyncio.wait({frozen, thawing}, return_when=asyncio.FIRST_COMPLETED)
    shelf.clock.advance(2 * LEASE)
    await shelf.purging().purge(FEED)
    steps.thaw()
    await asyncio.gather(frozen, return_exceptions=True)
    thawing.cancel()
    shelf.clock.advance(2 * LEASE)
    await shelf.purging().purge(FEED)
    assert len(shelf.archived()) == 3
    assert await shelf.ids() == set()


async def test_a_ledger_set_back_to_a_copy_deletes_by_the_file_that_is_there(shelf: Shelf) -> None:
    await shelf.add(1, shelf.ago(days=40))
    await shelf.purging().purge(FEED)
    for collection in ("archives", "purges", "floors"):
        await shelf.ledger._database.drop_collection(collection)
    await shelf.add(1, shelf.ago(days=40))
    await shelf.add(2, shelf.ago(days=40, seconds=1))
    await shelf.purging().purge(FEED)
    assert shelf.archived().keys() == {"orders:1", "orders:2"}
    assert await shelf.ids() == set()


# --- what can be wrong with the archive


async def test_a_full_disk_deletes_nothing_and_says_so_in_one_line(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shelf.add(1, shelf.ago(days=40))

    def no_space(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(file.Writer, "add", no_space)
    with pytest.raises(
        ArchiveUnavailable, match=r"^archive .*: No space left on device; nothing was deleted"
    ) as told:
        await shelf.purging().purge(FEED)
    assert "\n" not in str(told.value)
    assert await shelf.ids() == await shelf.attempts_left() == {"orders:1"}
    assert shelf.files() == []
    monkeypatch.undo()
    assert (await shelf.purging().purge(FEED)).records == 1


async def test_an_archive_that_is_not_mounted_deletes_nothing(shelf: Shelf) -> None:
    await shelf.add(1, shelf.ago(days=40))
    assert shelf.archive_dir
    shelf.archive_dir = shelf.archive_dir / "mnt"
    with pytest.raises(ArchiveUnavailable, match="No such file or directory"):
        await shelf.purging().purge(kept_feed())
    found = await shelf.get(1)
    assert found is not None
    assert "payload" not in found, "personal data does not wait for the archive"


async def test_what_is_read_back_must_be_what_was_written(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shelf.add(1, shelf.ago(days=40))
    sync = os.fsync

    def corrupting(descriptor: int) -> None:
        sync(descriptor)
        os.pwrite(descriptor, b"\0", 20)

    monkeypatch.setattr(os, "fsync", corrupting)
    with pytest.raises(ArchiveDamaged):
        await shelf.purging().purge(FEED)
    assert await shelf.ids() == {"orders:1"}
    assert shelf.files() == []


@pytest.mark.parametrize("harm", ["cut", "gone"])
async def test_a_file_that_was_harmed_half_way_stops_the_deleting_until_it_is_back(
    shelf: Shelf, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shelf.add(1, shelf.ago(days=40))
    steps = Steps(Fate())
    take = steps.take

    async def dies_before_the_drop(name: str, *rest: Any) -> Any:
        if name == "drop":
            raise Crashed
        return await take(name, *rest)

    monkeypatch.setattr(steps, "take", dies_before_the_drop)
    with pytest.raises(Crashed):
        await shelf.purging(steps).purge(FEED)
    shelf.clock.advance(2 * LEASE)
    (path,) = shelf.files()
    whole = path.read_bytes()
    path.write_bytes(whole[:-5]) if harm == "cut" else path.unlink()
    with pytest.raises(
        ArchiveDamaged if harm == "cut" else ArchiveUnavailable, match=r"put it back|frame|ended"
    ):
        await shelf.purging().purge(FEED)
    assert await shelf.ids() == {"orders:1"}
    path.write_bytes(whole)
    assert (await shelf.purging().purge(FEED)).records == 1


async def test_a_feed_that_is_no_longer_archived_goes_on_without(shelf: Shelf) -> None:
    await shelf.add(1, shelf.ago(days=40))
    await shelf.ledger.archives.begin(
        ArchivePart("orders", shelf.ago(days=40).date()), shelf.clock()
    )
    purged = await shelf.purging().purge(kept_feed(archive=False))
    assert (purged.records, purged.files, shelf.files()) == (1, [], [])
    assert await shelf.ledger.archives.of_feed("orders") == []


async def test_the_ledger_knows_every_file_and_its_hash(shelf: Shelf) -> None:
    await shelf.add(1, shelf.ago(days=40))
    await shelf.purging().purge(FEED)
    (noted,) = await shelf.ledger.archives.of_feed("orders")
    assert noted.state is PartState.DONE
    assert noted.contents == file.read_manifest(shelf.files()[0])


# --- restore


async def _restore(shelf: Shelf, path: Path, **how: Any) -> Restored:
    holding = PurgeLock(shelf.ledger, "ada@desk:1", LEASE, now=shelf.clock)
    return await Restoring(shelf.ledger, holding, now=shelf.clock).restore(path, **how)


async def test_a_restored_record_is_what_it_was_with_its_attempts_and_is_not_sent(
    shelf: Shelf,
) -> None:
    await shelf.add(1, shelf.ago(days=40))
    await shelf.add(
        2, shelf.ago(days=40), State.DEAD, acknowledged={"at": shelf.ago(days=40), "by": "ada"}
    )
    before = await shelf.get(1)
    assert before is not None
    await shelf.purging().purge(FEED)
    (path,) = shelf.files()
    assert (await _restore(shelf, path, dry_run=True)).restored == 2
    assert await shelf.ids() == set()
    restored = await _restore(shelf, path)
    assert (restored.feed, restored.restored, restored.there) == ("orders", 2, 0)
    back = {"restored_at": shelf.clock(), "restored_from": path.name, "kept_from": shelf.clock()}
    assert await shelf.get(1) == before | back
    assert await shelf.attempts_left() == {"orders:1", "orders:2"}
    assert await shelf.ledger.requeueing.due_retries(shelf.clock(), 10) == []
    assert await shelf.ledger.requeueing.queued_batches(shelf.clock()) == set()


async def test_restoring_twice_or_over_what_is_there_changes_nothing_of_it(shelf: Shelf) -> None:
    await shelf.add(1, shelf.ago(days=40))
    await shelf.purging().purge(FEED)
    await shelf.add(1, shelf.clock(), State.QUEUED)
    again = await _restore(shelf, shelf.files()[0])
    assert (again.restored, again.there) == (0, 1)
    assert (await shelf.get(1) or {})["state"] == "queued"


async def test_a_restored_record_is_kept_for_its_days_again_and_then_leaves(shelf: Shelf) -> None:
    await shelf.add(1, shelf.ago(days=40))
    await shelf.purging().purge(FEED)
    await _restore(shelf, shelf.files()[0])
    for _ in range(30):
        assert (await shelf.purging().purge(FEED)).records == 0
        shelf.clock.advance(timedelta(days=1))
    shelf.clock.advance(timedelta(days=1))
    purged = await shelf.purging().purge(FEED)
    assert (purged.records, len(purged.files)) == (1, 1)
    assert await shelf.ids() == await shelf.attempts_left() == set()


async def test_one_that_is_replayed_after_that_is_an_ordinary_delivery_again(shelf: Shelf) -> None:
    await shelf.add(1, shelf.ago(days=40))
    await shelf.purging().purge(FEED)
    await _restore(shelf, shelf.files()[0])
    replaying = Replaying(
        shelf.ledger, MemoryQueue(), shelf.feeds, message_wait=LEASE, now=shelf.clock
    )
    selection = Selection((State.DELIVERED,), feeds=("orders",))
    assert (await replaying.replay(selection, Rate(count=9, per_seconds=1), By("ada"))).moved == 1
    found = await shelf.get(1)
    assert found is not None
    assert (found["state"], "restored_at" in found) == ("queued", False)


async def test_a_restore_that_dies_half_way_is_finished_by_the_same_command(shelf: Shelf) -> None:
    for key in range(3):
        await shelf.add(key, shelf.ago(days=40))
    await shelf.purging().purge(FEED)
    (path,) = shelf.files()
    record = next(iter(file.read(path)))
    await shelf.ledger._database["attempts"].insert_many(
        [dict(attempt) for attempt in record.attempts]
    )
    assert (await _restore(shelf, path)).restored == 3
    assert len(await shelf.attempts_left()) == 3


async def test_a_file_that_is_not_whole_is_not_restored(shelf: Shelf) -> None:
    await shelf.add(1, shelf.ago(days=40))
    await shelf.purging().purge(FEED)
    (path,) = shelf.files()
    manifest = file.manifest_path(path)
    manifest.write_bytes(manifest.read_bytes().replace(b'"count": 1', b'"count": 2'))
    with pytest.raises(ArchiveDamaged, match="count is 1, not 2"):
        await _restore(shelf, path)
    manifest.unlink()
    with pytest.raises(ArchiveDamaged, match="no manifest"):
        await _restore(shelf, path)
    assert await shelf.ids() == set()
