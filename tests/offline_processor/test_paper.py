"""Slips and labels: every script is on paper, nothing else of a person is, and what cannot be drawn is said."""
# ruff: noqa: RUF001  the letters are of other scripts, that is the point

from __future__ import annotations

import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline_processor.errors import ProcessorError
from offline_processor.exports import paper, typesetting
from offline_processor.exports.addresses import address_lines, country_name, is_right_to_left
from offline_processor.exports.fonts import FontBook, characters_of, missing_in_words
from offline_processor.exports.making import Ready
from offline_processor.exports.paper import Paper, letter_size
from offline_processor.exports.people import Person, Wish
from offline_processor.exports.printing import to_printer
from offline_processor.exports.purposes import PURPOSES, Field, Purpose
from offline_processor.exports.typesetting import typeset
from offline_processor.ledger import disclosures
from tests.offline_processor.commands import configure, in_process, processor
from tests.offline_processor.parcels import WORLD, order_of, paid, world_order
from tests.offline_processor.shop import NOW, Shop, an_order, id_of, open_shop

WHO = "A. Keeper"
SENDER = Paper(sender=("Sealed Records", "Plattenweg 3", "10115 Berlin"))
Tool = Callable[[str], Path]
fonts_needed = pytest.mark.needs_tool("fonts-noto", "fonts-noto-cjk", "pdftotext")


@pytest.fixture
def today(tmp_path: Path) -> Iterator[Shop]:
    """A shop for commands, which read the real clock."""
    made = open_shop(tmp_path, now=int(time.time()))
    yield made
    made.keystore.close()


def pages(tool: Tool, pdf: bytes) -> list[str]:
    """The text of each page, as an outside reader finds it."""
    read = subprocess.run([tool("pdftotext"), "-", "-"], input=pdf, capture_output=True, check=True)
    return read.stdout.decode().split("\f")[:-1]


def squeezed(text: str) -> str:
    """Without blanks and marks of direction, which readers set as they like."""
    return "".join(c for c in text if not c.isspace() and unicodedata.category(c) != "Cf")


def made(
    shop: Shop, kind: Callable[..., Ready], fonts: FontBook | None = None, look: Paper = SENDER
) -> Ready:
    with shop.ledger() as ledger:
        return kind(ledger, look, fonts or FontBook(), Wish(), now=shop.now)


def a_person(**given: object) -> Person:
    usual: dict[str, object] = {
        "number": 1,
        "order_id": "00" * 16,
        "name": "Åsa Ölund",
        "lines": ("Storgatan 1",),
        "city": "Växjö",
        "postcode": "352 30",
        "country": "SE",
        "goods": (("LP-0001", 1),),
    }
    return Person(**(usual | given))  # type: ignore[arg-type]


def set_in_type(people: list[Person], template: str, look: Paper = SENDER) -> bytes:
    data = paper._data(look, FontBook(), people)
    (pdf,) = typeset([(f"offline_processor.exports:{template}", data)], None, now=NOW)
    return pdf


# What is on paper


@fonts_needed
@pytest.mark.parametrize("kind", [paper.slips, paper.labels])
def test_every_script_is_on_its_own_page_and_nothing_else_of_a_person(
    shop: Shop, tool: Tool, kind: Callable[..., Ready]
) -> None:
    paid(shop, *map(world_order, range(len(WORLD))))
    ready = made(shop, kind)
    (prepared,) = ready.files
    found = pages(tool, prepared.content)
    assert (ready.rejects, len(found)) == ([], len(WORLD))
    for number, (page, person) in enumerate(zip(found, WORLD, strict=True)):
        name, lines, city, region, postcode, country = person
        on_page = squeezed(page)
        for word in " ".join((name, *lines, city, region, postcode, country_name(country).upper())).split():
            assert squeezed(word) in on_page, (word, page)
        assert id_of(number) in on_page
        assert "Sealed Records" in page
        assert "@" not in page  # no email
        assert not any(part in page for part in ("24.99", "2499", "EUR", "4242"))  # no price, no card
        assert (f"LP-{number:04d}" in page) == (kind is paper.slips)
    declared = PURPOSES[Purpose.SLIPS if kind is paper.slips else Purpose.LABELS]
    assert prepared.fields == declared.fields
    assert Field.EMAIL not in declared.fields


@fonts_needed
def test_disclosure_of_paper_names_the_fields_that_stand_on_it(shop: Shop) -> None:
    paid(shop, an_order(0))  # an address without a region
    (prepared,) = made(shop, paper.labels).files
    assert prepared.fields == PURPOSES[Purpose.LABELS].fields - {Field.REGION}
    assert [one.order_id for one in prepared.disclosed] == [id_of(0)]


@fonts_needed
def test_what_a_person_wrote_is_never_markup(shop: Shop, tool: Tool) -> None:
    written = '#import "@preview/x:1.0.0": * #read("/etc/passwd") *a* $x$ \\u{41} ] } // @b <c>'
    paid(shop, order_of(0, name=written, lines=["#panic()", "= Heading", "- item", "```"]))
    ready = made(shop, paper.slips)
    (page,) = pages(tool, ready.files[0].content)
    for text in (written, "#panic()", "= Heading", "- item", "```"):
        assert squeezed(text) in squeezed(page)


@fonts_needed
@pytest.mark.parametrize("size", [(100, 150), (62, 100), (150, 100)])
def test_longest_address_stays_on_one_label(tool: Tool, size: tuple[int, int]) -> None:
    longest = [
        a_person(name="W" * 200, lines=("W" * 200,) * 4, city="W" * 100, region="W" * 100, postcode="W" * 20),
        a_person(name="山" * 60, lines=("田" * 60,) * 4, city="京" * 40),
        a_person(name="नि " * 60, lines=("म्मा " * 40,) * 4),
        a_person(),
    ]
    found = pages(tool, set_in_type(longest, "labels.typ", Paper(label=size)))
    assert len(found) == len(longest)
    assert squeezed(found[0]).count("W") == 1220 + "SWEDEN".count("W")
    assert squeezed(found[1]).count("田") == 240
    on_slips = pages(tool, set_in_type(longest, "slips.typ"))
    assert len(on_slips) == len(longest)
    assert squeezed(on_slips[0]).count("W") == 1220 + "SWEDEN".count("W")


@fonts_needed
def test_long_basket_goes_on_over_the_page_with_its_heading(tool: Tool) -> None:
    goods = tuple((f"LP-{number:04d}", number + 1) for number in range(100))
    found = pages(tool, set_in_type([a_person(goods=goods), a_person()], "slips.typ"))
    assert len(found) > 2
    assert all("Quantity" in page for page in found)
    assert all(sku in "".join(found) for sku, _ in goods)


@fonts_needed
def test_same_orders_at_the_same_time_are_the_same_bytes() -> None:
    assert set_in_type([a_person()], "slips.typ") == set_in_type([a_person()], "slips.typ")


@fonts_needed
def test_rehearsal_is_marked_on_every_page(tool: Tool) -> None:
    mark = Paper(mark="REHEARSAL: nobody was charged")
    for template in ("slips.typ", "labels.typ"):
        found = pages(tool, set_in_type([a_person(), a_person()], template, mark))
        assert ["REHEARSAL" in page for page in found] == [True, True]


def test_typesetter_can_write_no_file(tmp_path: Path) -> None:
    tried = (
        "import sys\nfrom offline_processor.exports.typesetting import hold_back\nhold_back()\n"
        "open(sys.argv[1], 'wb', buffering=0).write(b'x')"
    )
    ended = subprocess.run([sys.executable, "-c", tried, tmp_path / "a"], capture_output=True, check=False)
    assert ended.returncode != 0
    assert (tmp_path / "a").read_bytes() == b""


# Addresses


@pytest.mark.parametrize(
    ("person", "lines"),
    [
        ({}, ["Åsa Ölund", "Storgatan 1", "352 30 Växjö", "SWEDEN"]),
        (
            {"country": "GB", "city": "London", "postcode": "SW1A 1AA"},
            ["Åsa Ölund", "Storgatan 1", "London", "SW1A 1AA", "UNITED KINGDOM"],
        ),
        (
            {"country": "US", "city": "Austin", "region": "TX", "postcode": "78701"},
            ["Åsa Ölund", "Storgatan 1", "Austin TX 78701", "UNITED STATES OF AMERICA"],
        ),
        ({"country": "XX", "postcode": ""}, ["Åsa Ölund", "Storgatan 1", "Växjö", "XX"]),
    ],
)
def test_address_is_written_as_its_country_does(person: dict[str, str], lines: list[str]) -> None:
    assert address_lines(a_person(**person)) == lines


@given(
    st.builds(
        a_person,
        name=st.text(min_size=1, max_size=20),
        lines=st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=4).map(tuple),
        city=st.text(min_size=1, max_size=20),
        region=st.text(max_size=20),
        postcode=st.text(max_size=10),
        country=st.sampled_from(["SE", "GB", "US", "JP", "XX"]),
    )
)
def test_address_leaves_nothing_out(person: Person) -> None:
    written = "\n".join(address_lines(person))
    assert all(text in written for text in person.texts() if text.strip())


def test_direction_is_that_of_the_street() -> None:
    assert is_right_to_left(a_person(lines=("רחוב הרצל 5",), name="Yossi"))
    assert is_right_to_left(a_person(lines=("12",), name="محمد"))
    assert not is_right_to_left(a_person(lines=("5 Herzl",), name="יוסי"))
    assert not is_right_to_left(a_person(lines=("12",), name="12"))


@given(st.lists(st.text(max_size=200), min_size=1, max_size=9), st.integers(40, 200), st.integers(60, 300))
def test_letters_are_no_smaller_than_they_must_be(lines: list[str], width: int, height: int) -> None:
    size = letter_size(lines, width, height)
    assert 2 <= size <= 20
    assert letter_size(lines[:1], width, height) >= size


# Fonts


@fonts_needed
@pytest.mark.needs_tool("fc-query")
def test_characters_of_a_font_are_those_that_fontconfig_finds(tool: Tool) -> None:
    for family, (path, index) in FontBook()._files.items():
        command = [str(tool("fc-query")), "-i", str(index), "--format", "%{charset}", str(path)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        theirs = {
            c for part in said for c in range(int(part.split("-")[0], 16), int(part.split("-")[-1], 16) + 1)
        }
        ours = {c for first, last in characters_of(path, index) for c in range(first, last + 1)}
        assert ours - theirs <= {0x0, 0xD}, family  # which fontconfig leaves out
        assert theirs <= ours, family


@given(st.binary(max_size=200), st.integers(0, 5))
def test_any_bytes_are_a_font_without_characters(raw: bytes, index: int) -> None:
    path = Path("/dev/shm/any-font")
    path.write_bytes(b"ttcf" + raw if index else raw)
    characters_of.cache_clear()
    assert isinstance(characters_of(path, index), tuple)
    path.unlink()


@pytest.mark.needs_tool("pdftotext")
def test_machine_without_fonts_prints_latin_and_names_what_is_missing(
    shop: Shop, tmp_path: Path, tool: Tool
) -> None:
    (tmp_path / "no-fonts").mkdir()
    paid(shop, *map(world_order, range(len(WORLD))), order_of(9, name="Anna \N{GRINNING FACE}"))
    fonts = FontBook(tmp_path / "no-fonts")
    ready = made(shop, paper.slips, fonts)
    assert fonts.is_bare
    assert {reject.rule for reject in ready.rejects} == {"EXPORT-ROW-FONT"}
    said = " ".join(reject.why for reject in ready.rejects)
    assert all(word in said for word in ("thai", "arabic", "fonts-noto-core", "fonts-noto-cjk", "grinning"))
    (page,) = pages(tool, ready.files[0].content)
    assert "Åsa Ölund" in page


def test_what_is_missing_is_said_without_a_name() -> None:
    assert (
        missing_in_words("สมชาย") == "no font here has its thai characters: apt-get install fonts-noto-core"
    )
    assert missing_in_words("山a") == (
        "no font here has its cjk, latin characters: apt-get install fonts-noto-cjk fonts-noto-core"
    )


@fonts_needed
def test_what_turns_the_direction_of_a_line_is_not_set(tool: Tool) -> None:
    (page,) = pages(
        tool, set_in_type([a_person(name="\u202eabc\u2067", lines=("12\u3000B\u2028C",))], "labels.typ")
    )
    assert {"abc", "12 B C"} <= set(page.splitlines())
    assert not set("\u202e\u2067\u3000\u2028") & set(page)


def test_commands_that_open_keys_do_not_load_the_typesetter() -> None:
    tried = "import sys, offline_processor.cli\nsys.exit('typst' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", tried], check=False).returncode == 0


def test_module_in_the_current_directory_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("typst", "json", "offline_processor"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('planted')")
    monkeypatch.chdir(tmp_path)
    assert set_in_type([a_person()], "slips.typ").startswith(b"%PDF")


def test_typesetter_that_fails_is_a_refusal_that_quotes_nobody() -> None:
    with pytest.raises(ProcessorError) as refusal:
        list(typeset([("offline_processor.exports:missing.typ", {"name": "Asa"})], None, now=NOW))
    assert refusal.value.rule == "TYPESET-FAILED"
    assert "missing" not in str(refusal.value)
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


@pytest.mark.parametrize("words", [("print", "labels"), ("report",)])
def test_command_whose_typesetter_fails_says_so_and_leaves_the_orders_due(
    today: Shop, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    paid(today, an_order(0))
    config, empty = configure(today), today.root / "empty"
    empty.mkdir()
    who = ("--who", WHO) if len(words) > 1 else ()
    with monkeypatch.context() as patch:
        patch.setattr(typesetting, "_PATIENCE", 0.01)
        ran = in_process(config, *words, *who, "--out", str(empty), "--json")
    assert (ran.code, ran.document["rule"]) == (4, "TYPESET-FAILED")
    assert list(empty.iterdir()) == []
    assert in_process(config, *words, *who, "--out", str(empty), "--json").code == 0


@pytest.mark.parametrize(
    ("setting", "rule"), [('sender = ["\u5c71"]', "CONFIG-SENDER"), ('label = "10x10"', "CONFIG-VALUE")]
)
def test_setting_that_cannot_be_set_in_type_is_refused(today: Shop, setting: str, rule: str) -> None:
    paid(today, an_order(0))
    config, empty = configure(today), today.root / "empty"
    empty.mkdir()
    config.write_text(f'{config.read_text()}[exports]\n{setting}\nfonts = "empty"\n')
    ran = processor("print", config, "--who", WHO, "--out", str(empty), "--json", group="labels")
    assert (ran.code, ran.document["rule"]) == (2, rule)


# Printers


@contextmanager
def printers(root: Path, tool: Tool, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A CUPS of our own with one queue, "slips", that keeps what it takes; gives the queue's directory."""
    for name in ("spool/tmp", "cache", "run", "log", "root"):
        (root / name).mkdir(parents=True)
    socket = root / "run" / "cups.sock"
    (root / "cupsd.conf").write_text(
        f"Listen {socket}\nBrowsing No\nWebInterface No\n<Location />\nAllow all\n</Location>\n"
        "<Policy default>\n<Limit All>\nOrder allow,deny\nAllow all\n</Limit>\n</Policy>\n"
    )
    places = {"ServerRoot": "root", "RequestRoot": "spool", "TempDir": "spool/tmp", "CacheDir": "cache"}
    places |= {"StateDir": "run", "AccessLog": "log/access", "ErrorLog": "log/error", "PageLog": "log/page"}
    lines = [f"{key} {root / value}\n" for key, value in places.items()]
    (root / "cups-files.conf").write_text("".join(lines) + "FileDevice Yes\nSandboxing Relaxed\n")
    command = [str(tool("cupsd")), "-f", "-c", f"{root}/cupsd.conf", "-s", f"{root}/cups-files.conf"]
    with (root / "log" / "out").open("wb") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        monkeypatch.setenv("CUPS_SERVER", str(socket))
        patience = time.monotonic() + 20
        while not socket.exists() and time.monotonic() < patience:
            time.sleep(0.05)
        queue = ["-p", "slips", "-E", "-v", f"file:{root}/out", "-m", "raw"]
        subprocess.run([tool("lpadmin"), *queue], capture_output=True, check=True)
        yield root / "spool"
    finally:
        daemon.terminate()
        daemon.wait(20)


@fonts_needed
@pytest.mark.needs_tool("cupsd", "lp", "lpadmin")
def test_slips_go_to_a_printer_whole_and_once(
    today: Shop, tmp_path: Path, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    paid(today, *map(world_order, range(3)))
    config = configure(today)
    words = ("--who", WHO, "--printer")
    with printers(tmp_path / "cups", tool, monkeypatch) as spool:
        refused = processor("print", config, *words, "nobody", "--json", group="slips")
        printed = processor("print", config, *words, "slips", "--json", group="slips")
        again = processor("print", config, *words, "slips", "--json", group="slips")
        jobs = [path.read_bytes() for path in spool.glob("d*")]
    assert (refused.code, refused.document["rule"]) == (4, "PRINT-REFUSED")
    assert (printed.code, printed.document["orders"]) == (0, 3)
    assert again.code == 5
    (job,) = jobs
    assert len(pages(tool, job)) == 3
    states = [row[0] for row in today.rows("SELECT state FROM export ORDER BY id")]
    assert states == ["withdrawn", "released"]


def test_printer_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProcessorError, match="USAGE-PRINTER"):
        to_printer("office", "A4", path=str(tmp_path))
    (tmp_path / "lp").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "lp").chmod(0o755)
    with pytest.raises(ProcessorError, match="USAGE-PRINTER"):
        to_printer("-o raw", "A4", path=str(tmp_path))


# The commands


@fonts_needed
def test_command_writes_paper_once_and_logs_it(today: Shop, tmp_path: Path, tool: Tool) -> None:
    paid(today, *map(world_order, range(3)))
    config, place = configure(today), tmp_path / "paper"
    place.mkdir()
    words = ("--who", WHO, "--out", str(place), "--json")
    dry = processor("print", config, *words, "--dry-run", group="labels")
    assert (dry.code, dry.document["orders"], list(place.iterdir())) == (0, 3, [])
    done = processor("print", config, *words, group="labels")
    assert (done.code, done.document["exports"][0]["purpose"]) == (0, "labels")
    assert processor("print", config, *words, group="labels").code == 5
    (path,) = place.iterdir()
    found = pages(tool, path.read_bytes())
    assert ["REHEARSAL" in page for page in found] == [True] * 3
    again = processor("print", config, *words, "--again", "--of", "1", group="labels")
    assert (again.code, again.document["orders"]) == (0, 3)
    with today.ledger() as ledger:
        assert [len(disclosures.orders_in(ledger, export.id)) for export in disclosures.exports(ledger)] == [
            3,
            3,
        ]
    assert (
        processor("print", config, "--who", WHO, "--json", group="slips").document["rule"] == "USAGE-PRINTER"
    )
