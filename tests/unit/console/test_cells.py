"""Of the live overview only cells that changed are sent; all of it where anything else did."""

from __future__ import annotations

from app.console.feeds.cells import changed_cells

TABLE = (
    "<p>As of 10:00</p><table><thead><tr><th>Feed</th></tr></thead>"
    '<tr><th>orders</th><td>3 <path d="M1"/></td>\n<td>0</td></tr></table>'
)


def test_a_cell_that_changed_is_told_by_its_place() -> None:
    after = TABLE.replace("10:00", "10:02").replace("<td>0", '<td class="bad">1')
    assert changed_cells(TABLE, after) == [(0, "<p>As of 10:02</p>"), (4, '<td class="bad">1</td>')]
    assert changed_cells(TABLE, TABLE) == []


def test_all_is_sent_where_a_row_or_anything_around_the_cells_changed() -> None:
    assert changed_cells(TABLE, TABLE.replace("<td>0</td>", "<td>0</td><td>1</td>")) is None
    assert (
        changed_cells(
            TABLE, TABLE.replace("<table>", "<section><h2>What fails</h2></section><table>")
        )
        is None
    )
