"""The console's texts: extracted from its sources, and brought into each language's catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.pofile import read_po, write_po

from app.console.sentences import CONTEXT
from app.console.translations import DOMAIN, LANGUAGES, LOCALE, catalogue_of
from tests.support.sentences import sentences

CONSOLE = LOCALE.parent
METHODS = [("**.py", "python"), ("**/templates/**.html", "jinja2"), ("templates/**.html", "jinja2")]
OPTIONS = {pattern: {"trimmed": "false"} for pattern, method in METHODS if method == "jinja2"}
SOURCE = "en"


def extracted() -> Catalog:
    """Every text of the console that is to be translated."""
    found = Catalog(domain=DOMAIN, project="Rowrelay", fuzzy=False)
    keywords = {**DEFAULT_KEYWORDS, "N_": None}
    for file, line, message, comments, context in extract_from_dir(
        CONSOLE, METHODS, OPTIONS, keywords=keywords
    ):
        del file, line
        found.add(message, auto_comments=comments, context=context)
    for sentence in sentences():
        found.add(sentence, context=CONTEXT)
    return found


def catalogue(language: str) -> Catalog:
    """A language's catalogue as it is kept; an empty one where there is none."""
    path = catalogue_of(language)
    if not path.exists():
        return Catalog(locale=language, domain=DOMAIN, project="Rowrelay", fuzzy=False)
    with path.open("rb") as written:
        return read_po(written, locale=language, domain=DOMAIN)


def translated() -> Iterator[str]:
    """The languages that have a catalogue."""
    return (language for language in LANGUAGES if language != SOURCE)


def update(language: str) -> tuple[Path, int]:
    """Bring a catalogue up to date. Returns where it is, and how many texts wait for a translation."""
    kept = catalogue(language)
    kept.update(extracted(), no_fuzzy_matching=True)
    kept.obsolete.clear()
    path = catalogue_of(language)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as written:
        write_po(written, kept, no_location=True, sort_output=True, omit_header=True, width=120)
    return path, sum(not is_translated(one) for one in kept if one.id)


def forms(message: Message) -> tuple[str, ...]:
    """What is said for it: one text, or one for each plural form of the language."""
    said = message.string or ""
    return (said,) if isinstance(said, str) else tuple(said)


def is_translated(message: Message) -> bool:
    """Whether every form is there."""
    return all(forms(message))


def main() -> None:
    """Bring every catalogue up to date, and say what waits."""
    for language in translated():
        path, waiting = update(language)
        print(f"{path}: {waiting} to be translated")  # noqa: T201 - a command


if __name__ == "__main__":
    main()
