"""Words of people that the ledger keeps for ever: no command takes a card's number among them, its trail neither."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from keys.console import ExitCode
from offline_processor.errors import ProcessorError
from offline_processor.words import checked_word
from tests.offline_processor.commands import configure, in_process
from tests.offline_processor.shop import id_of, next_bundle, open_shop

if TYPE_CHECKING:
    from pathlib import Path

CARD = "4111111111111111"
WHO, WHY = ("--who", "A. Keeper"), ("--why", "dispute 17")
AS_WHO, AS_WHY = ("--who", CARD), ("--why", f"card {CARD[:4]} {CARD[4:8]} {CARD[8:12]} {CARD[12:]}")
TIMES = ("--from", "2026-01-01T00:00:00Z", "--until", "2026-01-02T00:00:00Z")
ORDER = id_of(0)
COMMANDS = (
    ("legal-hold", "add", ORDER, *WHO, *AS_WHY),
    ("legal-hold", "add", ORDER, *AS_WHO, *WHY),
    ("legal-hold", "remove", ORDER, *WHO, *AS_WHY),
    ("subject", "refuse", "ab" * 16, *WHO, *AS_WHY),
    ("subject", "erase", ORDER, *AS_WHO),
    ("retention", "run", *AS_WHO),
    ("export", "carrier", "--out", ".", *AS_WHO),
    ("print", "slips", "--out", ".", *AS_WHO),
    ("reconcile", "/dev/null", *TIMES, *AS_WHO),
    ("close-day", *AS_WHO),
    ("batch-file", "close-case", "1", *WHO, *AS_WHY),
    ("batch-file", "close-case", "1", *AS_WHO, *WHY),
    ("refund", ORDER, "--whole", "--reference", "R-1", *AS_WHO, *WHY),
)


def test_card_number_stands_in_the_ledger_by_no_command(tmp_path: Path) -> None:
    shop = open_shop(tmp_path, now=int(time.time()) - 100)
    next_bundle(shop, 0)
    shop.run()
    shop.keystore.close()
    config = configure(shop)
    for words in COMMANDS:
        ran = in_process(config, *words, "--json")
        assert (ran.code, ran.document["rule"]) == (ExitCode.USAGE, "USAGE-WORDS"), words
        assert CARD not in ran.out + ran.err
    kept = "".join(subject + facts for subject, facts in shop.rows("SELECT subject, facts FROM entry"))
    assert CARD not in kept.replace(" ", "")
    ended = shop.rows("SELECT facts FROM entry WHERE kind = 'command-ended'")
    assert ended, "those that had read the configuration left their end, without what was typed"


@pytest.mark.parametrize("name", [CARD, "A 4111 1111 1111"])
def test_operator_in_the_configuration_is_no_card(tmp_path: Path, name: str) -> None:
    shop = open_shop(tmp_path, now=int(time.time()) - 100)
    shop.keystore.close()
    config = configure(shop)
    config.write_text(f'{config.read_text()}[operator]\nname = "{name}"\n')
    assert in_process(config, "status", "--json").document["rule"] == "CONFIG-VALUE"


@pytest.mark.parametrize("text", ["A. Keeper", "dispute 17, 2026-11-27", "12345678901"])
def test_word_that_may_stand_is_taken_as_it_is(text: str) -> None:
    assert checked_word(text, "--why") == text


@pytest.mark.parametrize("text", ["", "123456789012", "1234 5678-9012", "a" * 65, "a\n", "\u0664", "a@b"])
def test_word_that_may_not_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ProcessorError) as refusal:
        checked_word(text, "--why")
    assert refusal.value.rule == "USAGE-WORDS"
    assert len(text) < 2 or text not in str(refusal.value)
