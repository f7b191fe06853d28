"""The page on feeds names every option of every cursor strategy, with its strategies."""

from __future__ import annotations

import re
from pathlib import Path

from app.feeds.cursors import SPECS

PAGE = Path(__file__).resolve().parents[3] / "docs" / "feeds.md"


def test_every_option_is_listed_with_the_strategies_that_have_it() -> None:
    text = PAGE.read_text(encoding="utf-8")
    section = text.partition("## How the table is read: `cursor`")[2].partition("\n## ")[0]
    listed = dict(re.findall(r"(?m)^\| `(\w+)` \| ([\w, ]+) \|", section))
    owners: dict[str, list[str]] = {}
    for strategy, spec in SPECS.items():
        for option in spec.model_fields.keys() - {"strategy"}:
            owners.setdefault(option, []).append(strategy)
    expected = {
        option: "all" if len(names) == len(SPECS) else ", ".join(names)
        for option, names in owners.items()
    }
    assert listed == expected
