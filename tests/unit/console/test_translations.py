"""Every text of the console is said in every language, with the same placeholders."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.console.security.roles import Permission, Role
from app.console.translations import LOCALE, translations
from app.console.words import PERMISSIONS, ROLES
from app.core.states import State
from tests.support.messages import catalogue, extracted, forms, is_translated, translated

TEMPLATES = sorted(LOCALE.parent.glob("**/templates/*.html"))
_PLACEHOLDER = re.compile(r"%\((\w+)\)s|%%|%")
_JINJA = re.compile(
    r"\{% call \w+\(\) %\}[\w-]*\{% endcall %\}|\{#.*?#\}|\{%-?\s*trans\b.*?endtrans\s*-?%\}|\{%.*?%\}|\{\{.*?\}\}",
    re.DOTALL,
)
_TAG = re.compile(r'<[^>]*>|[\w-]+="[^"]*"')
_WORD = re.compile(r"[A-Za-z]{2,}")
SAID_ALIKE = {"Rowrelay", "CSV", "NDJSON", "JSON", "HTML", "Authorization", "Bearer"}
"""What every language writes as it stands."""


@pytest.mark.parametrize("language", sorted(translated()))
def test_every_text_is_translated(language: str) -> None:
    kept = catalogue(language)
    wanted = {message.id for message in extracted() if message.id}
    waiting = [text for text in wanted if not (said := kept.get(text)) or not is_translated(said)]
    assert not waiting, "run scripts/messages, and translate them"
    assert {message.id for message in kept if message.id} == wanted, "run scripts/messages"


@pytest.mark.parametrize("language", sorted(translated()))
def test_a_translation_has_the_placeholders_of_its_text(language: str) -> None:
    for message in catalogue(language):
        sources = (message.id,) if isinstance(message.id, str) else tuple(message.id)
        wanted = set(_PLACEHOLDER.findall(sources[-1]))
        for said in forms(message) if message.id else ():
            assert set(_PLACEHOLDER.findall(said)) == wanted, sources


def test_words_that_come_from_values_are_known_to_translators() -> None:
    assert set(ROLES) == {role.value for role in Role}
    assert set(PERMISSIONS) == {permission.value for permission in Permission}
    texts = {message.id for message in extracted()}
    assert {state.value for state in State} <= texts


def test_vietnamese_is_what_a_vietnamese_reader_gets() -> None:
    assert translations("vi").gettext("Dead letters") == "Không gửi được"
    assert translations("en").gettext("Dead letters") == "Dead letters"
    assert translations("xx").gettext("Dead letters") == "Dead letters"


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: f"{path.parts[-3]}/{path.name}")
def test_no_text_of_a_template_is_english_alone(template: Path) -> None:
    bare = _TAG.sub(" ", _JINJA.sub(" ", template.read_text(encoding="utf-8")))
    assert not set(_WORD.findall(bare)) - SAID_ALIKE, 'say them by _("…")'
