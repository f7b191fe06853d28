"""An archive file holds what was given to it, to the last type, and says where it ceases to."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import ArchiveDamaged
from app.ledger.archives import ArchivePart, Contents
from app.ledger.records import Record, from_line, glance, to_line
from app.retention.archive import file
from app.retention.archive.restore import checked

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

AT = datetime(2026, 1, 31, 10, 0, 0, 123000, tzinfo=UTC)
PART = ArchivePart("orders", date(2026, 1, 31))


def record(key: int, attempts: int = 1) -> Record:
    delivery = {
        "_id": f"orders:{key}", "feed": "orders", "key": str(key), "position": ["0x07D1", "Zoë", None],
        "state": "delivered", "created_at": AT, "attempts": attempts, "payload": '{"n":1}\u2028', "last": {"at": AT},
    }  # fmt: skip
    return Record(
        delivery, [{"_id": f"orders:{key}#{number}", "at": AT} for number in range(attempts)]
    )


def written(path: Path, *records: Record) -> Contents:
    writer = file.Writer(path)
    writer.open()
    writer.add(records)
    contents = writer.finish()
    file.publish(writer.path, path)
    file.write_manifest(path, PART, contents)
    return contents


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / PART.name


_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.datetimes(timezones=st.just(UTC)).map(
        lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000)
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "at"]), inner)
    ),
    max_leaves=8,
)


@given(_VALUES)
def test_a_line_gives_back_what_it_was_made_of(value: Any) -> None:
    before = Record(
        {"_id": "orders:1", "feed": "orders", "state": "dead", "value": value},
        [{"_id": "orders:1#a"}],
    )
    line = to_line(before)
    assert line.count(b"\n") == 1
    assert from_line(line) == before
    assert glance(line) == ("orders:1", 1)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"nothing\n",
        b"[]\n",
        b'{"delivery":{},"attempts":[]}\n',
        b'{"delivery":{"_id":"o:1","feed":"o","state":"dead"}}\n',
        b'{"delivery":{"_id":"o:1","feed":"o","state":"dead"},"attempts":[{"_id":"o:10#a"}]}\n',
        b'{"delivery":{"_id":1,"feed":"o","state":"dead"},"attempts":[]}\n',
    ],
)
def test_a_line_that_is_no_record_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        glance(line)
    with pytest.raises(ValueError, match=r"."):
        from_line(line)


def test_what_is_written_is_read_back_and_the_manifest_says_how_much(path: Path) -> None:
    records = [record(1), record(2, attempts=0), record(3, attempts=5)]
    contents = written(path, *records)
    assert list(file.read(path)) == records
    assert checked(path) == (contents, "orders")
    assert (contents.count, contents.attempts) == (3, 6)
    assert (contents.first_id, contents.last_id) == ("orders:1", "orders:3")
    assert sorted(one.name for one in path.parent.iterdir()) == [path.name, f"{path.name}.json"]


@pytest.mark.skipif(
    not (shutil.which("zstd") and shutil.which("sha256sum")), reason="needs zstd and sha256sum"
)
def test_ordinary_tools_read_it_and_give_the_same_hash(path: Path) -> None:
    contents = written(path, record(1), record(2))
    lines = subprocess.run(["zstd", "-dc", path], check=True, capture_output=True).stdout
    assert lines == to_line(record(1)) + to_line(record(2))
    told = subprocess.run(["sha256sum", path], check=True, capture_output=True, text=True).stdout
    assert told.split()[0] == contents.sha256


@pytest.mark.parametrize("at", range(0, 200, 7))
def test_a_byte_that_changed_or_is_missing_is_found(path: Path, at: int) -> None:
    written(path, *(record(key) for key in range(20)))
    whole = path.read_bytes()
    place = at % len(whole)
    for harmed in (
        whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :],
        whole[:place],
        whole + b"more",
    ):
        path.write_bytes(harmed)
        with pytest.raises(ArchiveDamaged):
            checked(path)


def test_a_file_that_is_there_is_never_replaced(path: Path) -> None:
    written(path, record(1))
    before = path.read_bytes()
    other = file.Writer(path)
    other.open()
    other.add([record(2)])
    other.finish()
    with pytest.raises(FileExistsError):
        file.publish(other.path, path)
    other.abandon()
    assert path.read_bytes() == before


def test_where_there_are_no_hard_links_it_is_renamed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("os.link", no_links)
    written(path, record(1))
    with pytest.raises(FileExistsError):
        written(path, record(2))
    assert [one.id for one in file.read(path)] == ["orders:1"]


def test_a_later_part_has_a_number_in_its_name() -> None:
    assert PART.name == "orders/orders-2026-01-31.ndjson.zst"
    assert (
        ArchivePart("orders", date(2026, 1, 31), 2).name == "orders/orders-2026-01-31-2.ndjson.zst"
    )


# --- what somebody else wrote


def forged(
    path: Path, unpacked: bytes, count: int = 1, options: dict[int, int] | None = None
) -> None:
    """A file with a manifest that agrees with it."""
    packing = zstd.ZstdCompressor(options=options)
    raw = packing.compress(unpacked) + packing.flush()
    path.parent.mkdir()
    path.write_bytes(raw)
    said = Contents(count, 0, len(raw), hashlib.sha256(raw).hexdigest(), "orders:1", "orders:1")
    file.write_manifest(path, PART, said)


def taken(work: Callable[[], object]) -> int:
    """The most bytes that were allocated at once while it ran."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_line_without_an_end_is_refused_once_it_is_too_long(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "LINE_BYTES", 2**20)
    forged(path, b"\0" * 60 * 2**20)

    def verify() -> None:
        with pytest.raises(ArchiveDamaged, match="line 1: longer than 1048576 bytes"):
            checked(path)

    assert taken(verify) < 8 * 2**20


@pytest.mark.parametrize(
    "item", [b"[],", b'"ab",', b"{},", b"1,"], ids=["lists", "texts", "objects", "numbers"]
)
def test_a_line_of_very_many_values_is_refused_before_it_is_read(path: Path, item: bytes) -> None:
    good = to_line(record(1)).rstrip(b"}\n")
    line = good + b',"more":[' + item * (6_000_000 // len(item)) + b"1]}\n"
    forged(path, line)

    def verify() -> None:
        with pytest.raises(ArchiveDamaged, match="more than 500000 values"):
            checked(path)

    assert taken(verify) < 8 * len(line)


def test_a_payload_full_of_commas_and_brackets_is_one_value(path: Path) -> None:
    text = json.dumps({"v": '[{,"\\' * 500_000})
    one = Record(record(1).delivery | {"payload": text}, ())
    written(path, one)
    assert checked(path)[0].count == 1
    assert [found.delivery["payload"] for found in file.read(path)] == [text]


def test_more_lines_than_the_manifest_says_are_not_gone_through(path: Path) -> None:
    forged(path, to_line(record(1)) * 100_000, count=3)
    lines = 0

    def tell(count: int, _: str) -> None:
        nonlocal lines
        lines = count

    with pytest.raises(ArchiveDamaged, match="more than the 3 lines that its manifest says"):
        checked(path, tell)
    assert lines == 0


def test_a_file_that_needs_much_memory_to_unpack_is_refused(path: Path) -> None:
    forged(path, to_line(record(1)), options={zstd.CompressionParameter.window_log: 27})
    assert path.read_bytes()[5] >> 3 == 27 - 10, (
        "the frame was to ask for a window of 128 MiB (RFC 8878, 3.1.1.1.2)"
    )
    with pytest.raises(ArchiveDamaged, match="memory"):
        checked(path)


def test_a_manifest_without_an_end_is_no_manifest(path: Path) -> None:
    written(path, record(1))
    with file.manifest_path(path).open("ab") as manifest:
        manifest.truncate(50 * 2**20)

    def verify() -> None:
        with pytest.raises(ArchiveDamaged, match="not a manifest"):
            checked(path)

    assert taken(verify) < 2**20


def test_a_line_nested_too_deeply_is_no_record() -> None:
    line = (
        to_line(record(1)).rstrip(b"}\n") + b',"more":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
    )
    with pytest.raises(ValueError, match="Extended JSON"):
        from_line(line)


def test_a_record_that_no_line_may_hold_is_refused_when_it_is_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "LINE_BYTES", 1000)
    writer = file.Writer(path)
    writer.open()
    with pytest.raises(ArchiveDamaged, match=r"orders:1: a line of \d+ bytes is too long"):
        writer.add([Record(record(1).delivery | {"payload": "x" * 1200}, ())])
    writer.abandon()
