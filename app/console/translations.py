"""What pages say in other languages: catalogues of gettext, read as translators write them.

`locale/<language>/LC_MESSAGES/console.po` is read when a language is first asked for, so nothing compiled
is kept that could be older. `scripts/messages` brings the catalogues up to date.
"""

from __future__ import annotations

from functools import cache
from io import BytesIO
from pathlib import Path

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import NullTranslations, Translations

from app.console.sentences import CONTEXT, Sentences

LOCALE = Path(__file__).parent / "locale"
DOMAIN = "console"
LANGUAGES = ("en", "vi")
"""English is what the sources say."""


def catalogue_of(language: str) -> Path:
    """Where the catalogue of a language is."""
    return LOCALE / language / "LC_MESSAGES" / f"{DOMAIN}.po"


@cache
def translations(language: str) -> NullTranslations:
    """What the pages say in that language; in English where there is none of it."""
    path = catalogue_of(language)
    if language not in LANGUAGES or not path.exists():
        return NullTranslations()
    compiled = BytesIO()
    with path.open("rb") as written:
        write_mo(compiled, read_po(written, locale=language, domain=DOMAIN))
    compiled.seek(0)
    return Translations(compiled, DOMAIN)


@cache
def sentences(language: str) -> Sentences:
    """What Python made, in that language; in English as it is."""
    path = catalogue_of(language)
    if language not in LANGUAGES or not path.exists():
        return Sentences({}, lambda word: word)
    with path.open("rb") as written:
        kept = read_po(written, locale=language, domain=DOMAIN)
    translated = {str(one.id): str(one.string) for one in kept if one.context == CONTEXT}
    plain = translations(language).gettext
    return Sentences(translated, lambda word: plain(word) if word else word)
