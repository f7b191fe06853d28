"""Every text of the console is said in every language, with the same placeholders."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.console.security.roles import Permission, Role
from app.console.sentences import CONTEXT, LEAST_WORDS, words_in
from app.console.translations import LOCALE, sentences, translations
from app.console.words import PERMISSIONS, ROLES
from app.core.states import State
from tests.support.messages import catalogue, extracted, forms, is_translated, translated
from tests.support.sentences import OF_PROGRAMS, refusals

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
    kept = {(one.context, one.id): one for one in catalogue(language) if one.id}
    wanted = {(one.context, one.id) for one in extracted() if one.id}
    waiting = [one for one in wanted if one not in kept or not is_translated(kept[one])]
    assert not waiting, "run scripts/messages, and translate them"
    assert kept.keys() == wanted, "run scripts/messages"


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


def test_every_refusal_is_a_sentence_that_translators_have() -> None:
    known = {str(message.id) for message in extracted() if message.context == CONTEXT}
    raised = {text: where for where, text in refusals() if text not in OF_PROGRAMS}
    assert len(raised) > 80
    of_others = {text for text in raised if "%(" in text and words_in(text) < LEAST_WORDS}
    missing = {where: text for text, where in raised.items() if text not in known | of_others}
    assert not missing, (
        "say it in two words at least; or name its file in tests/support/sentences.py"
    )


def test_every_sentence_of_python_is_known_again_with_its_values_in_it() -> None:
    say = sentences("vi").say
    for message in catalogue("vi"):
        if message.context != CONTEXT:
            continue
        text, said = str(message.id), str(message.string)
        names = dict.fromkeys(re.findall(r"%\((\w+)\)s", text))
        values = {name: f"<{number}>" for number, name in enumerate(names)}
        assert say(text % values) == said % values


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("attempts spent: 503 Service Unavailable", "đã hết số lần thử: 503 Service Unavailable"),
        (
            "5 of 5 of the canary failed (5 dead), and at most 20% may",
            "5 trên 5 của nhóm thử trước bị lỗi (5 không gửi được), trong khi chỉ được phép tối đa 20%",
        ),
        (
            "paused: by an operator; sending paused: 404 Not Found: 20 refusals in a row, and nothing "
            "accepted in between (partner.stop_after)",
            "tạm dừng: bởi người vận hành; tạm dừng gửi: 404 Not Found: bị từ chối 20 lần liên tiếp, "
            "không lần nào được nhận (partner.stop_after)",
        ),
        ("422 tax id missing: customer.tax_id", "422 tax id missing: customer.tax_id"),
        ("paused: they move, see ticket 12", "tạm dừng: they move, see ticket 12"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("", ""),
        ("%(count)s 100 %", "%(count)s 100 %"),
    ],
)
def test_what_is_ours_in_a_text_is_translated_and_the_rest_stays(text: str, said: str) -> None:
    assert sentences("vi").say(text) == said
    assert sentences("en").say(text) == text
