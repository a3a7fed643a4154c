"""Exports: declared fields only, of people whose order is due, each logged, once, in cells that do no harm."""

from __future__ import annotations

import csv
import io
import os
import stat
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline_processor.config import ChargingConfig
from offline_processor.decisions import Decision, Said, Verb, decide
from offline_processor.errors import ProcessorError
from offline_processor.exports import releasing
from offline_processor.exports.cells import csv_bytes, defused, is_harmless
from offline_processor.exports.letters import Encoding, Letters, in_letters
from offline_processor.exports.making import Prepared, Ready, carrier_files, feedback_file
from offline_processor.exports.people import Wish
from offline_processor.exports.profiles import FIELD_OF, SHIPPED, Profile, Source, load_profile, parse_profile
from offline_processor.exports.purposes import PURPOSES, Field, Purpose
from offline_processor.exports.releasing import into_directory, put, release, settle_unfinished
from offline_processor.ledger import disclosures, operations, restrictions
from offline_processor.ledger.disclosures import ExportState
from offline_processor.ledger.restrictions import ALL
from offline_processor.stages import OrderState
from tests.offline_processor.commands import configure, processor
from tests.offline_processor.parcels import WORLD, in_state, order_of, paid, world_order
from tests.offline_processor.shop import NOW, Shop, an_order, id_of, open_shop
from tests.offline_processor.simulated import SimulatedAcquirer
from tests.transfer.file_systems import exfat

ROYAL_MAIL = load_profile("royal-mail")
WHO = "A. Keeper"
RUN = tuple("=+-@\t\r")


def read(raw: bytes, delimiter: str = ",") -> list[list[str]]:
    """The cells of a file, by Python's reader."""
    return list(csv.reader(io.StringIO(raw.decode(), newline=""), delimiter=delimiter))


@pytest.fixture
def today(tmp_path: Path) -> Iterator[Shop]:
    """A shop for commands, which read the real clock."""
    made = open_shop(tmp_path, now=int(time.time()))
    yield made
    made.keystore.close()


def carrier(shop: Shop, wish: Wish | None = None, profile: Profile = ROYAL_MAIL) -> Ready:
    with shop.ledger() as ledger:
        return carrier_files(ledger, profile, wish or Wish(), now=shop.now)


def let_out(shop: Shop, ready: Ready, directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    with shop.ledger() as ledger:
        for prepared in ready.files:
            release(ledger, prepared, into_directory(directory), who=WHO, now=shop.now)


def rules(ready: Ready) -> list[str]:
    return [reject.rule for reject in ready.rejects]


# The carrier's file


def test_carriers_file_has_every_parcel_in_its_own_columns_and_letters(shop: Shop) -> None:
    paid(shop, *map(world_order, range(len(WORLD))))
    ready = carrier(shop)
    header, *rows = read(ready.files[0].content)
    assert header[:3] == ["Order reference", "Full name", "Address line 1"]
    assert [row[0] for row in rows] == [id_of(number) for number in range(len(WORLD))]
    assert all(cell.isascii() for row in rows for cell in row)
    assert [row[8] for row in rows] == ["SWE", "EGY", "ISR", "IND", "THA", "JPN", "KOR", "RUS", "VNM"]
    assert rows[0][1:3] == ["Asa Olund", "Storgatan 1"]
    assert rows[7][1] == "Ivan Petrov"
    assert (ready.rejects, ready.changed) == ([], len(WORLD))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_profile_takes_a_parcel_of_each_country_or_says_why_not(shop: Shop, name: str) -> None:
    paid(shop, *map(world_order, range(len(WORLD))))
    profile = load_profile(name)
    ready = carrier(shop, profile=profile)
    rows = [row for one in ready.files for row in read(one.content, profile.delimiter)]
    assert len(rows) + len(ready.rejects) == len(WORLD) + profile.header
    assert len(rows) > len(WORLD) // 2
    assert {len(row) for row in rows} == {len(profile.columns)}


def test_carrier_that_takes_few_rows_gets_several_files(shop: Shop, tmp_path: Path) -> None:
    paid(shop, *map(an_order, range(5)))
    profile = parse_profile(
        b'carrier = "x"\ntitle = "X"\nrows = 2\ncolumns = [{ name = "n", field = "name" }]', "x"
    )
    let_out(shop, carrier(shop, profile=profile), tmp_path / "files")
    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == [
        f"carrier-x-{number:06d}.csv" for number in (1, 2, 3)
    ]


@pytest.mark.parametrize(
    ("lines", "rule"),
    [
        (["x" * 101], "EXPORT-ROW-LENGTH"),
        (["=" + "x" * 99], "EXPORT-ROW-LENGTH"),  # with its apostrophe
        (["\ue000"], "EXPORT-ROW-LETTERS"),
        (["\u200d"], "EXPORT-ROW-EMPTY"),
    ],
)
def test_row_that_cannot_be_written_is_named_and_stays_due(shop: Shop, lines: list[str], rule: str) -> None:
    paid(shop, an_order(0), order_of(1, lines=lines))
    ready = carrier(shop)
    assert [(reject.order_id, reject.rule) for reject in ready.rejects] == [(id_of(1), rule)]
    assert ready.orders == 1
    let_out(shop, ready, shop.root / "files")
    assert rules(carrier(shop)) == [rule]  # and again, until someone mends it


def test_country_that_the_carrier_does_not_serve_is_a_reject(shop: Shop) -> None:
    paid(shop, an_order(0))
    home = parse_profile(
        b'carrier = "x"\ntitle = "X"\ncountries = ["GB"]\ncolumns = [{ name = "n", field = "name" }]', "x"
    )
    assert rules(carrier(shop, profile=home)) == ["EXPORT-ROW-COUNTRY"]


def test_value_is_told_beyond_the_border_only(shop: Shop) -> None:
    paid(shop, an_order(0, amount=1250, currency="BHD"), an_order(1, amount=900, currency="JPY"))
    text = (
        'carrier = "x"\ntitle = "X"\nhome = "%s"\ncolumns = [{ name = "n", field = "name" },'
        ' { name = "v", field = "value", abroad = true }, { name = "c", field = "currency", abroad = true }]'
    )
    abroad = carrier(shop, profile=parse_profile((text % "GB").encode(), "x")).files[0]
    assert [row[1:] for row in read(abroad.content)[1:]] == [["1.250", "BHD"], ["900", "JPY"]]
    assert Field.VALUE in abroad.fields
    at_home = carrier(shop, profile=parse_profile((text % "SE").encode(), "x")).files[0]
    assert [row[1:] for row in read(at_home.content)[1:]] == [["", ""], ["", ""]]
    assert Field.VALUE not in at_home.fields  # an empty column discloses nothing


# Who may be in it


@pytest.mark.parametrize("state", list(OrderState))
def test_only_orders_in_a_declared_state_are_exported(shop: Shop, state: OrderState) -> None:
    paid(shop, an_order(0))
    in_state(shop, 0, state)
    with shop.ledger() as ledger:
        sent = carrier_files(ledger, ROYAL_MAIL, Wish(), now=NOW)
        asked = feedback_file(ledger, Wish(), now=NOW)
        named = feedback_file(ledger, Wish(orders=(id_of(0),)), now=NOW)
    assert sent.orders == (state in {OrderState.PAID, OrderState.AUTHORISED})
    assert asked.orders == (state is OrderState.DISPATCHED)
    assert rules(named) == ([] if state is OrderState.DISPATCHED else ["EXPORT-ROW-STATE"])


def test_order_is_exported_once_for_a_purpose_unless_again(shop: Shop, tmp_path: Path) -> None:
    paid(shop, an_order(0), an_order(1))
    let_out(shop, carrier(shop, Wish(orders=(id_of(0),))), tmp_path / "files")
    assert [one.order_id for one in carrier(shop).files[0].disclosed] == [id_of(1)]
    assert rules(carrier(shop, Wish(orders=(id_of(0),)))) == ["EXPORT-ROW-REPEATED"]
    again = carrier(shop, Wish(orders=(id_of(0), "00" * 16), again=True))
    assert (again.orders, rules(again)) == (1, ["EXPORT-ROW-UNKNOWN"])
    in_state(shop, 0, OrderState.DISPATCHED)
    with shop.ledger() as ledger:
        assert feedback_file(ledger, Wish(), now=NOW).orders == 1  # another purpose


def test_order_that_is_not_paid_for_after_all_is_not_sent(shop: Shop) -> None:
    paid(shop, an_order(0), an_order(1), an_order(2))
    with shop.ledger() as ledger, ledger.atomic():
        ledger.execute("DROP TRIGGER operation_is_never_deleted")  # its capture is answered another way
        ledger.execute("DELETE FROM operation WHERE number = 1")
        for number, kind, state in ((1, "capture", "failed"), (2, "refund", "pending")):
            ledger.execute(
                "INSERT INTO operation SELECT ?, ?, attempt, ?, 'r', amount, currency, final, stan, sent_at, rrn,"
                " original_stan, original_at, original_amount, approval, ?, '', 0, 0 FROM operation WHERE number = 3"
                " AND kind = 'capture'",
                (f"id-{number}", number, kind, state),
            )
    ready = carrier(shop)
    assert [(reject.order_id, reject.rule) for reject in ready.rejects] == [
        (id_of(0), "EXPORT-ROW-UNPAID"),
        (id_of(1), "EXPORT-ROW-UNPAID"),
    ]
    assert ready.orders == 1


def test_refused_money_is_no_obstacle_once_it_was_taken_after_all_or_a_person_answers_for_it(
    shop: Shop,
) -> None:
    keys = shop.keys_for()
    shop.bundle([shop.seal(number, keys=keys) for number in range(3)])
    shop.run(SimulatedAcquirer(shop.books, faults=["code-13@capture"]))
    assert rules(carrier(shop)) == ["EXPORT-ROW-UNPAID"] * 3
    with shop.ledger() as ledger, ledger.atomic():
        refused = {item.original.order_id: item for item in operations.failed(ledger)}
        for number, verb in enumerate((Verb.AGAIN, Verb.CLOSE)):
            decision = Decision(verb=verb, subject=refused[id_of(number)].id)
            limits = ChargingConfig(second_person_above={"EUR": 10_000})
            decide(ledger, decision, Said(who=WHO, why="phoned"), limits, now=NOW)
    shop.run_later()
    ready = carrier(shop)
    assert [(reject.order_id, reject.rule) for reject in ready.rejects] == [(id_of(2), "EXPORT-ROW-UNPAID")]
    assert [one.order_id for one in ready.files[0].disclosed] == [id_of(0), id_of(1)]


def test_goods_that_are_not_released_wait_without_a_complaint(shop: Shop) -> None:
    paid(shop, an_order(0))
    with shop.ledger() as ledger, ledger.atomic():
        ledger.execute("UPDATE orders SET release_at = ?", (NOW + 1,))
    ready = carrier(shop)
    assert (ready.orders, ready.waiting, ready.rejects) == (0, 1, [])
    shop.now += 1
    assert carrier(shop).orders == 1


def test_wishes_of_people_are_respected(shop: Shop) -> None:
    paid(shop, an_order(0), an_order(1), an_order(2))
    for number in range(3):
        in_state(shop, number, OrderState.DISPATCHED)
    with shop.ledger() as ledger:
        with ledger.atomic():
            restrictions.restrict(ledger, "ASA0@example.org", "feedback", who=WHO, now=NOW)
            restrictions.restrict(ledger, "asa1@example.org", ALL, who=WHO, now=NOW)
        ready = feedback_file(ledger, Wish(), now=NOW)
        assert ([one.order_id for one in ready.files[0].disclosed], ready.opted_out) == ([id_of(2)], 2)
    for number in range(3):
        in_state(shop, number, OrderState.PAID)
    ready = carrier(shop)
    assert ready.orders == 2  # no invitations is not: no parcel
    assert [(reject.order_id, reject.rule) for reject in ready.rejects] == [
        (id_of(1), "EXPORT-ROW-RESTRICTED")
    ]


def test_erased_person_is_in_no_export(shop: Shop) -> None:
    paid(shop, an_order(0))
    with shop.ledger() as ledger, ledger.atomic():
        ledger.execute("DELETE FROM person")
    ready = carrier(shop)
    assert (ready.orders, ready.erased, ready.rejects) == (0, 1, [])
    assert rules(carrier(shop, Wish(orders=(id_of(0),)))) == ["EXPORT-ROW-ERASED"]


# Invitations


def test_invitation_has_an_address_a_name_and_a_reference_that_is_no_order(shop: Shop) -> None:
    paid(shop, *map(world_order, range(3)))
    for number in range(3):
        in_state(shop, number, OrderState.DISPATCHED)
    with shop.ledger() as ledger:
        (prepared,) = feedback_file(ledger, Wish(), now=NOW).files
    header, *rows = read(prepared.content)
    assert header == ["email", "name", "reference"]
    assert [row[:2] for row in rows] == [
        [f"person{number}@example.org", WORLD[number][0]] for number in range(3)
    ]
    references = [row[2] for row in rows]
    assert len(set(references)) == 3
    assert not any(reference in id_of(number) for reference in references for number in range(3))
    assert [one.reference for one in prepared.disclosed] == references


def test_address_that_a_spreadsheet_would_run_is_not_invited(shop: Shop) -> None:
    paid(shop, order_of(0, email="=cmd@example.org"), order_of(1, name="=1+1"))
    for number in range(2):
        in_state(shop, number, OrderState.DISPATCHED)
    with shop.ledger() as ledger:
        ready = feedback_file(ledger, Wish(), now=NOW)
    assert [(reject.order_id, reject.rule) for reject in ready.rejects] == [(id_of(0), "EXPORT-ROW-EXACT")]
    assert read(ready.files[0].content)[1][1] == "'=1+1"


def test_name_with_marks_between_its_letters_is_invited_without_those_that_turn_the_line(shop: Shop) -> None:
    paid(shop, order_of(0, name="\u0639\u0644\u06cc\u200c\u0631\u0636\u0627 \u202eevil"))
    in_state(shop, 0, OrderState.DISPATCHED)
    with shop.ledger() as ledger:
        ready = feedback_file(ledger, Wish(), now=NOW)
    assert ready.rejects == []
    assert read(ready.files[0].content)[1][1] == "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627 evil"


# The disclosure log


@pytest.mark.parametrize("name", SHIPPED)
def test_disclosure_entries_equal_what_is_in_the_file(shop: Shop, tmp_path: Path, name: str) -> None:
    paid(shop, *map(world_order, range(len(WORLD))))
    profile = load_profile(name)
    let_out(shop, carrier(shop, profile=profile), tmp_path / "files")
    (path,) = (tmp_path / "files").iterdir()
    rows = read(path.read_bytes(), profile.delimiter)[profile.header :]
    reference = next(place for place, column in enumerate(profile.columns) if column.field is Source.ORDER)
    with shop.ledger() as ledger:
        (export,) = disclosures.exports(ledger)
        logged = disclosures.orders_in(ledger, export.id)
        chained = [
            row[0] for row in ledger.rows("SELECT subject FROM entry WHERE kind = 'disclosed' ORDER BY id")
        ]
        ledger.verify_chain()
    assert [one.order_id for one in logged] == chained == [row[reference] for row in rows]
    filled = {
        FIELD_OF[column.field].value
        for row in rows
        for column, cell in zip(profile.columns, row, strict=True)
        if column.field is not None and cell
    }
    assert set(export.fields) == filled <= PURPOSES[Purpose.CARRIER].fields
    assert (export.recipient, export.who, export.at, export.state) == (
        name,
        WHO,
        shop.now,
        ExportState.RELEASED,
    )


def test_nothing_that_a_purpose_does_not_declare_stands_in_a_file(shop: Shop, tmp_path: Path) -> None:
    paid(shop, *map(world_order, range(4)))
    for number in (0, 1):
        in_state(shop, number, OrderState.DISPATCHED)
    let_out(shop, carrier(shop, profile=load_profile("dpd")), tmp_path / "files")
    with shop.ledger() as ledger:
        ready = feedback_file(ledger, Wish(), now=NOW)
    let_out(shop, ready, tmp_path / "files")
    sent, asked = (path.read_text() for path in sorted((tmp_path / "files").iterdir()))
    assert "@" not in sent
    assert not any(sku in sent for sku in ("LP-0002", "LP-0003"))
    assert not any(
        text in asked for text in (*(id_of(number) for number in range(4)), "Storgatan", "352 30", "SE")
    )


def test_field_that_is_not_declared_is_never_released(shop: Shop, tmp_path: Path) -> None:
    paid(shop, an_order(0))
    ready = carrier(shop)
    wrong = Prepared(
        declared=PURPOSES[Purpose.FEEDBACK],
        recipient="x",
        kind="csv",
        fields=frozenset({Field.LINES}),
        disclosed=ready.files[0].disclosed,
        content=b"",
    )
    with shop.ledger() as ledger, pytest.raises(ValueError, match="does not declare"):
        release(ledger, wrong, into_directory(tmp_path), who=WHO, now=NOW)
    with shop.ledger() as ledger:
        assert disclosures.exports(ledger) == []


def test_export_that_cannot_be_written_is_withdrawn_and_its_orders_stay_due(
    shop: Shop, tmp_path: Path
) -> None:
    paid(shop, an_order(0))
    place = tmp_path / "files"
    place.mkdir()
    (place / "carrier-royal-mail-000001.csv").write_text("mine")
    with pytest.raises(ProcessorError, match="EXPORT-EXISTS"):
        let_out(shop, carrier(shop), place)
    assert (place / "carrier-royal-mail-000001.csv").read_text() == "mine"
    let_out(shop, carrier(shop), place)
    with shop.ledger() as ledger:
        assert [one.state for one in disclosures.exports(ledger)] == [
            ExportState.RELEASED,
            ExportState.WITHDRAWN,
        ]


@pytest.mark.parametrize("out", [True, False], ids=["after the file", "before the file"])
def test_crash_between_log_and_file_loses_and_doubles_nothing(
    shop: Shop, tmp_path: Path, *, out: bool
) -> None:
    paid(shop, an_order(0))
    with shop.ledger() as ledger:
        (prepared,) = carrier_files(ledger, ROYAL_MAIL, Wish(), now=NOW).files
        release(
            ledger,
            prepared,
            into_directory(tmp_path) if out else lambda name, content: None,
            who=WHO,
            now=NOW,
        )
        with ledger.atomic():
            ledger.execute("UPDATE export SET state = 'recorded'")  # as if the machine had stopped here
        assert settle_unfinished(ledger, Purpose.SLIPS, tmp_path, now=NOW) == []  # not its business
        ((export, found),) = settle_unfinished(ledger, Purpose.CARRIER, tmp_path, now=NOW)
        assert (export.id, found) == (1, out)
        assert carrier_files(ledger, ROYAL_MAIL, Wish(), now=NOW).orders == (0 if out else 1)
        assert settle_unfinished(ledger, Purpose.CARRIER, tmp_path, now=NOW) == []


def test_interrupted_export_is_neither_lost_nor_believed(shop: Shop, tmp_path: Path) -> None:
    def put_and_stop(name: str, content: bytes) -> None:
        put(tmp_path / name, content)
        raise KeyboardInterrupt

    paid(shop, an_order(0))
    with shop.ledger() as ledger:
        (prepared,) = carrier_files(ledger, ROYAL_MAIL, Wish(), now=NOW).files
        with pytest.raises(KeyboardInterrupt):
            release(ledger, prepared, put_and_stop, who=WHO, now=NOW)
        assert carrier_files(ledger, ROYAL_MAIL, Wish(), now=NOW).orders == 0
        ((_, found),) = settle_unfinished(ledger, Purpose.CARRIER, tmp_path, now=NOW)
    assert found


# The file itself


def test_file_is_new_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        put(tmp_path / "a.csv", b"abc")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.csv").stat().st_mode) == 0o600
    with pytest.raises(ProcessorError, match="EXPORT-EXISTS"):
        put(tmp_path / "a.csv", b"xyz")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"abc"]


def test_file_has_no_name_before_it_is_whole(tmp_path: Path) -> None:
    assert releasing._put_unnamed(tmp_path / "a.csv", b"abc")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"abc"]
    with pytest.raises(FileExistsError):
        releasing._put_unnamed(tmp_path / "a.csv", b"xyz")


def test_file_system_without_unnamed_files_gets_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releasing, "_put_unnamed", lambda path, content: False)
    put(tmp_path / "a.csv", b"abc")
    assert stat.S_IMODE((tmp_path / "a.csv").stat().st_mode) == 0o600
    with pytest.raises(ProcessorError, match="EXPORT-EXISTS"):
        put(tmp_path / "a.csv", b"xyz")
    assert (tmp_path / "a.csv").read_bytes() == b"abc"


@pytest.mark.needs_tool("exfat")
def test_file_is_written_onto_a_real_exfat_stick(tmp_path: Path) -> None:
    with exfat(tmp_path, megabytes=8) as stick:
        put(stick / "a.csv", b"abc")
        with pytest.raises(ProcessorError, match="EXPORT-EXISTS"):
            put(stick / "a.csv", b"xyz")
        with pytest.raises(ProcessorError, match="EXPORT-WRITE"):
            put(stick / "b.csv", bytes(16 * 1024 * 1024))
        assert [(path.name, path.read_bytes()) for path in stick.iterdir()] == [("a.csv", b"abc")]


def test_full_disk_leaves_nothing_under_the_name() -> None:
    with pytest.raises(ProcessorError, match="EXPORT-WRITE"):
        put(Path("/proc/a.csv"), b"abc")
    with pytest.raises(ProcessorError, match="USAGE-OUT-PLACE"):
        into_directory(Path("/nowhere/at/all"))


# Cells


@given(st.text())
def test_no_cell_begins_with_what_a_spreadsheet_runs(text: str) -> None:
    assert not defused(text).lstrip(" ").startswith(RUN)


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1), min_size=1))
def test_cells_are_read_back_as_they_are_by_another_parser(rows: list[list[str]]) -> None:
    raw = csv_bytes(rows)
    if not any("\r" in cell or "\n" in cell for row in rows for cell in row):
        assert raw.count(b"\r\n") == len(rows)
    assert read(raw) == rows


@given(
    st.lists(st.text("=+-@;,|\t\"'a1 \r\n"), min_size=1, max_size=4), st.sampled_from([",", ";", "|", "\t"])
)
def test_no_cell_runs_whatever_separator_a_program_splits_by(cells: list[str], splits_by: str) -> None:
    line = csv_bytes([[defused(cell) for cell in cells]]).decode()
    for piece in line.replace("\r\n", "\n").replace("\r", "\n").replace("\n", splits_by).split(splits_by):
        assert not piece.lstrip(' "').startswith(("=", "+", "-", "@")), line


@given(st.text(st.characters(categories=["L", "N"])))
def test_harmless_text_is_left_alone(text: str) -> None:
    assert defused(text) == text
    assert is_harmless(text)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("=1+1", "'=1+1"),
        ("  =1+1", "  '=1+1"),
        ("\t=1", "'\t'=1"),
        ("Flat 2, -1", "Flat 2, '-1"),
        ('" =1', "\" '=1"),
        ('\u200b " \ufeff=1', "\u200b \" \ufeff'=1"),
        ("Jean-Luc", "Jean-Luc"),
        ("a@b.org", "a@b.org"),
        ("\uff1d1", "'\uff1d1"),
        ("12-14 High St", "12-14 High St"),
    ],
)
def test_cell_is_defused_as_the_rule_says(text: str, written: str) -> None:
    assert defused(text) == written
    assert defused(written) == written


# Letters


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(Letters), st.sampled_from(Encoding))
def test_letters_are_of_the_kind_that_was_asked_for_or_there_are_none(
    text: str, letters: Letters, encoding: Encoding
) -> None:
    written = in_letters(text, letters, encoding)
    if written is None:
        return
    if encoding is Encoding.WINDOWS_1252:
        written.encode("cp1252")
    if letters is Letters.ASCII:
        assert written.isascii()
    assert in_letters(written, letters, encoding) == written


@pytest.mark.parametrize(
    ("text", "letters", "written"),
    [
        ("Åsa Ölund", Letters.LATIN, "Åsa Ölund"),
        ("A\u030asa", Letters.LATIN, "Åsa"),
        ("Иван", Letters.LATIN, "Ivan"),
        ("Łódź", Letters.ASCII, "Lodz"),
        ("Straße", Letters.ASCII, "Strasse"),
        ("राम कुमार", Letters.ASCII, "Ram Kumar"),
        ("محمد", Letters.LATIN, "Mhmd"),
        ("Ke\u02bbalohi", Letters.ASCII, "Ke'alohi"),
        ("\ue000", Letters.ASCII, None),
        ("\ue000", Letters.ANY, "\ue000"),
        ("\u202eabc\u2066", Letters.ANY, "abc"),
    ],
)
def test_letters_are_written_as_people_would(text: str, letters: Letters, written: str | None) -> None:
    assert in_letters(text, letters) == written


# Profiles of other carriers

columns = st.fixed_dictionaries(
    {"name": st.from_regex(r"[A-Za-z ]{1,20}", fullmatch=True)},
    optional={
        "field": st.sampled_from([*map(str, Source), "phone", "pan"]),
        "limit": st.integers(-1, 1001),
        "required": st.booleans(),
        "value": st.text(max_size=5),
        "abroad": st.booleans(),
        "colour": st.just("red"),
    },
)


def toml(value: Any) -> str:
    """A value in TOML, by a writer of our own: the parser is what is tried."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str():
            inner = "".join(
                c if c.isalnum() or c in " -" else f"\\u{ord(c):04x}" for c in value if ord(c) < 0xD800
            )
            return f'"{inner}"'
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case _:
            return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"


@given(st.lists(columns, max_size=4), st.sampled_from([None, "GB", "gb"]), st.sampled_from([",", ":", ";"]))
def test_any_mapping_is_taken_as_it_stands_or_refused(
    wanted: list[dict[str, Any]], home: str | None, delimiter: str
) -> None:
    lines = [
        'carrier = "mine"',
        'title = "Mine"',
        f"delimiter = {toml(delimiter)}",
        f"columns = {toml(wanted)}",
    ]
    lines += [] if home is None else [f'home = "{home}"']
    raw = "\n".join(lines).encode()
    read_as = tomllib.loads(raw.decode())["columns"]
    try:
        profile = parse_profile(raw, "mine")
    except ProcessorError as error:
        assert error.rule == "CONFIG-CARRIER"  # noqa: PT017
        return
    assert [column.name for column in profile.columns] == [column["name"] for column in read_as]
    assert profile.fields <= PURPOSES[Purpose.CARRIER].fields
    assert not any("colour" in column for column in read_as)
    assert delimiter != ":"
    assert home != "gb"


@given(st.binary(max_size=300))
def test_any_bytes_are_no_profile(raw: bytes) -> None:
    with pytest.raises(ProcessorError, match="CONFIG-CARRIER"):
        parse_profile(raw, "mine")


@pytest.mark.parametrize(
    "text",
    [
        'columns = [{ name = "n", field = "email" }]',
        'columns = [{ name = "n", field = "goods" }]',
        'columns = [{ name = "n", field = "name" }, { name = "n" }]',
        'columns = [{ name = "n", field = "name", value = "x" }]',
        'columns = [{ name = "n", field = "name", abroad = true }]',
        'columns = [{ name = "n", value = "x" }]',
        "columns = []",
        'columns = [{ name = "n", field = "name" }]\nunknown = 1',
        'columns = [{ name = "n", field = "name" }]\nencoding = "utf-16"',
        'columns = [{ name = "n", field = "name" }]\nrows = 0',
        'columns = [{ name = "n", field = "name" }]\ncarrier = "../x"',
    ],
)
def test_mapping_that_is_wrong_is_refused(text: str) -> None:
    head = 'title = "Mine"\n' if "carrier =" in text else 'carrier = "mine"\ntitle = "Mine"\n'
    with pytest.raises(ProcessorError, match="CONFIG-CARRIER"):
        parse_profile((head + text).encode(), "mine")
    with pytest.raises(ProcessorError, match="CONFIG-CARRIER"):
        load_profile("/nowhere/mine.toml")


# The commands


def test_commands_export_once_and_say_what_is_missing(today: Shop) -> None:
    paid(today, an_order(0), order_of(1, lines=["x" * 150]))
    config, place = configure(today), today.root / "files"
    place.mkdir()
    words = ("--out", str(place), "--who", WHO, "--json")
    dry = processor("export", config, *words, "--dry-run", group="carrier")
    assert (dry.code, dry.document["orders"], dry.document["exports"]) == (3, 1, [])
    assert list(place.iterdir()) == []
    made = processor("export", config, *words, group="carrier")
    assert (made.code, made.document["rejects"][0]["rule"]) == (3, "EXPORT-ROW-LENGTH")
    assert [path.name for path in place.iterdir()] == ["REHEARSAL-carrier-royal-mail-000001.csv"]
    assert made.document["mark"].startswith("REHEARSAL")
    again = processor("export", config, *words, id_of(0), group="carrier")
    assert (again.code, again.document["rejects"][0]["rule"]) == (3, "EXPORT-ROW-REPEATED")
    log = processor("export", config, "--json", group="log")
    assert [(one["who"], one["orders"], one["state"]) for one in log.document["exports"]] == [
        (WHO, 1, "released")
    ]
    assert {one["purpose"] for one in log.document["purposes"]} == set(Purpose)
    assert processor("export", config, *words, group="feedback").code == 5


def test_people_who_opted_out_by_command_are_not_invited(today: Shop) -> None:
    paid(today, an_order(0), an_order(1))
    for number in (0, 1):
        in_state(today, number, OrderState.DISPATCHED)
    config, place, listed = configure(today), today.root / "files", today.root / "opted-out"
    place.mkdir()
    listed.write_text("ASA0@example.org\n\n")
    noted = processor("export", config, "--file", str(listed), "--who", WHO, "--json", group="opt-out")
    assert (noted.code, noted.document["changed"]) == (0, 1)
    made = processor("export", config, "--out", str(place), "--who", WHO, group="feedback")
    assert made.code == 0
    assert "1 left out" in made.out
    (path,) = place.iterdir()
    assert [row[0] for row in read(path.read_bytes())[1:]] == ["asa1@example.org"]
    assert "asa1" not in made.out + made.err


@pytest.fixture(scope="module")
def due(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A configured shop with one order to export, for the commands that refuse to."""
    made = open_shop(tmp_path_factory.mktemp("due"), now=int(time.time()))
    paid(made, an_order(0))
    configure(made)
    return made


@pytest.mark.parametrize(
    ("group", "words", "rule"),
    [
        ("carrier", ("--out", ".", "--who", "a\nb"), "USAGE-WORDS"),
        ("carrier", ("--out", "."), "USAGE-WHO"),
        ("carrier", ("--out", ".", "--who", WHO, "--again"), "USAGE-AGAIN"),
        ("carrier", ("--out", ".", "--who", WHO, "xyz"), "USAGE-ORDER"),
        ("carrier", ("--out", "/nowhere", "--who", WHO), "USAGE-OUT-PLACE"),
        ("carrier", ("--out", ".", "--who", WHO, "--carrier", "nobody"), "CONFIG-CARRIER"),
        ("opt-out", ("--file", "/dev/null", "--who", WHO), "USAGE-EMAILS"),
    ],
)
def test_wrong_words_export_nothing(due: Shop, group: str, words: tuple[str, ...], rule: str) -> None:
    ran = processor("export", due.root / "offline.toml", *words, "--json", group=group)
    assert (ran.code, ran.document["rule"]) == (2, rule)
    assert due.rows("SELECT * FROM export") == []
