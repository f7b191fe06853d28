"""What the strategy `change_tracking` sends to SQL Server, word for word, and what a feed may ask
of it.
"""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from app.core.errors import SourceRefused
from app.feeds.cursors import SPECS
from app.feeds.feed import Feed
from app.source.explain import Explained, explain_unseen


def _feed(*, deletes: bool = False, **fields: Any) -> Feed:
    cursor = {"strategy": "change_tracking", "deletes": deletes}
    plain = {
        "name": "orders",
        "table": "dbo.orders",
        "key": "id",
        "columns": ["id", "note"],
        "cursor": cursor,
    }
    return Feed.model_validate(plain | {"partner": {"url": "https://partner.example/"}} | fields)


def _explained(**fields: Any) -> dict[str, Explained]:
    return {one.name: one for one in explain_unseen(_feed(**fields), "mssql")}


def _said(explained: Explained) -> str:
    return " ".join(explained.sql.split())


def test_changes_are_asked_for_since_the_version_before_that_of_the_last_row() -> None:
    """Other rows of the same transaction may be left: they have its version."""
    page = _explained()["page"]
    assert page.parameters == {"since": 1999, "position": 2000, "key1": 2000, "horizon": 3000}
    assert (
        "FROM CHANGETABLE(CHANGES [dbo].[orders], @since) AS changed LEFT OUTER JOIN [dbo].[orders] "
        "ON [dbo].[orders].[id] = changed.[id]) AS changes" in _said(page)
    )
    assert (
        "WHERE changes.[SYS_CHANGE_VERSION] >= @position AND (changes.[SYS_CHANGE_VERSION] > @position OR "
        "changes.[SYS_CHANGE_VERSION] = @position AND changes.[id] > @key1) AND "
        "changes.[SYS_CHANGE_VERSION] <= @horizon ORDER BY changes.[SYS_CHANGE_VERSION], changes.[id]"
        in _said(page)
    )


def test_a_row_says_whether_it_goes_on() -> None:
    kept = "CASE WHEN (changes.[SYS_CHANGE_OPERATION] {} 'D' {} changes.rowrelay_there IS NOT NULL) THEN 1 ELSE 0 END"
    assert kept.format("=", "OR") in _said(_explained(deletes=True, capture="changes")["page"])
    assert kept.format("!=", "AND") in _said(_explained()["page"])


def test_the_current_version_is_asked_for_before_the_page_and_the_oldest_after_it() -> None:
    explained = _explained()
    oldest = "CHANGE_TRACKING_MIN_VALID_VERSION(OBJECT_ID(@OBJECT_ID_1)) AS oldest"
    assert (
        _said(explained["horizon"])
        == f"SELECT CHANGE_TRACKING_CURRENT_VERSION() AS version, {oldest}"
    )
    assert _said(explained["kept"]) == f"SELECT {oldest}"
    assert explained["kept"].parameters == {"OBJECT_ID_1": "[dbo].[orders]"}


def test_the_table_is_read_by_its_key_with_the_version_of_each_row() -> None:
    walk = _said(_explained()["table"])
    version = "CHANGETABLE(VERSION [dbo].[orders], ([id]), (whole.[id])) AS versioned"
    assert f"FROM [dbo].[orders] AS whole OUTER APPLY {version}" in walk
    assert walk.endswith(
        "WHERE walk.[id] >= @position AND walk.[id] > @position ORDER BY walk.[id]"
    )


def test_odd_names_are_quoted() -> None:
    explained = _explained(table="[my schema].[a]]b c]", key="i d]", columns=["i d]"])
    assert "CHANGETABLE(CHANGES [my schema].[a]]b c], @since)" in _said(explained["page"])
    assert "(VERSION [my schema].[a]]b c], ([i d]]]), (whole.[i d]]]))" in _said(explained["table"])


def test_no_other_product_has_it() -> None:
    with pytest.raises(
        SourceRefused, match="strategy change_tracking needs SQL Server; SOURCE_URL names sqlite"
    ):
        explain_unseen(_feed(), "sqlite")


def test_no_statement_of_a_reconciliation_is_explained() -> None:
    assert not {"walk", "missing", "deleted", "unordered"} & set(_explained())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"deletes": True}, 'deletes = true needs capture = "changes"'),
        (
            {
                "deletes": True,
                "capture": "changes",
                "where": [{"column": "note", "op": "=", "value": "x"}],
            },
            "conditions .* on columns of the key alone.* found note",
        ),
        (
            {
                "deletes": True,
                "capture": "changes",
                "filter": [{"column": "note", "op": "is null"}],
            },
            "conditions .* on columns of the key alone.* found note",
        ),
        ({"cursor": {"strategy": "change_tracking", "column": "id"}}, "column"),
        (
            {"cursor": {"strategy": "change_tracking", "start": "0x7d1"}},
            "a change version such as 2000",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=f"(?s){said}"):
        _feed(**fields)


def test_deletes_go_with_conditions_on_the_key() -> None:
    where = [{"column": "id", "op": ">", "value": 100}]
    assert (
        _feed(deletes=True, capture="changes", where=where, filter=where).cursor.strategy
        == "change_tracking"
    )


def test_a_position_is_a_version() -> None:
    assert SPECS["change_tracking"].parse_position(" 57 ") == 57
