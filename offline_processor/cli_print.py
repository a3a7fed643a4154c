"""`offline-processor print`: packing slips and address labels, to a printer or into a PDF; no key is open meanwhile.

Why here: the command line's part of what leaves this machine on paper.
Must not: read clock or environment (the station has them), open a key, or write a person's data into a file unasked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from keys import console
from keys.console import ExitCode
from offline_processor.cli_letting_out import Asked, let_out, mark_of, orders_options, shown
from offline_processor.errors import ProcessorError
from offline_processor.exports import paper
from offline_processor.exports.fonts import PACKAGES, FontBook, missing_in_words
from offline_processor.exports.making import Ready
from offline_processor.exports.paper import Paper
from offline_processor.exports.people import Wish
from offline_processor.exports.printing import to_printer
from offline_processor.exports.purposes import Purpose
from offline_processor.exports.releasing import into_directory
from offline_processor.station import Settings, Station, ledger_of

_MAKERS: Final = {Purpose.SLIPS: paper.slips, Purpose.LABELS: paper.labels}
_MEDIA: Final = {"a4": "A4", "a5": "A5", "letter": "Letter"}


def paper_options(function: console.F) -> console.F:
    """Add ``--printer`` and ``--out``, of which one is needed."""
    printer = click.option("--printer", metavar="NAME", help="A queue of CUPS; lpstat -e lists them.")
    out = click.option(
        "--out",
        metavar="DIR",
        type=click.Path(path_type=Path, file_okay=False),
        help="Write PDFs into this directory instead.",
    )
    return printer(out(function))


@click.group("print")
def print_() -> None:
    """Print packing slips and address labels, each order once; what cannot be drawn with the fonts here is named."""


@print_.command(
    "slips",
    epilog="\b\nExamples:\n"
    "  offline-processor print slips --printer office --who 'A. Keeper' --config offline.toml\n"
    "  offline-processor print slips --out /srv/paper --who 'A. Keeper' --config offline.toml",
)
@console.shared_options
@orders_options
@paper_options
@click.pass_obj
def print_slips(station: Station, /, **given: Any) -> ExitCode:
    """Print a packing slip for every order that is to be sent: address, order id, goods. No prices, no email."""
    return _print(station, Purpose.SLIPS, **given)


@print_.command(
    "labels",
    epilog="Example: offline-processor print labels --printer labels --who 'A. Keeper' --config offline.toml",
)
@console.shared_options
@orders_options
@paper_options
@click.pass_obj
def print_labels(station: Station, /, **given: Any) -> ExitCode:
    """Print an address label for every order that is to be sent, one a page of the size in [exports] label."""
    return _print(station, Purpose.LABELS, **given)


def _print(
    station: Station,
    purpose: Purpose,
    *,
    config: Path,
    asked: Asked,
    printer: str | None,
    out: Path | None,
    as_json: bool,
) -> ExitCode:
    settings = station.settings(config)
    if (printer is None) == (out is None):
        raise ProcessorError("USAGE-PRINTER", "where is it to be printed?", "give --printer or --out")
    form = paper_of(settings)
    width, height = form.label
    size = f"Custom.{width}x{height}mm" if purpose is Purpose.LABELS else _MEDIA[form.size]
    put = to_printer(printer, size) if printer is not None else into_directory(out or Path())
    fonts = FontBook(settings.exports.fonts)
    if lacking := fonts.lacking(form.sender):
        raise ProcessorError(
            "CONFIG-SENDER", missing_in_words(lacking), "or write [exports] sender in other letters"
        )
    with ledger_of(station, settings) as ledger:
        now = station.clock()

        def prepare(wish: Wish) -> Ready:
            return _MAKERS[purpose](ledger, form, fonts, wish, now=now)

        place = f"went to {printer}" if printer is not None else f"are in {out}"
        outcome = let_out(
            ledger, purpose, prepare, put, asked, settings=settings, directory=out, place=place, now=now
        )
    if fonts.is_bare and not as_json:
        console.warn(f"This machine has no fonts but for Latin letters: apt-get install {' '.join(PACKAGES)}")
    return shown(outcome, as_json=as_json)


def paper_of(settings: Settings) -> Paper:
    """How this shop's paper looks; a rehearsal's is marked on every page."""
    width, _, height = settings.exports.label.partition("x")
    return Paper(
        size=settings.exports.paper,
        label=(int(width), int(height)),
        sender=settings.exports.sender,
        mark=mark_of(settings),
    )


COMMANDS: Final = (print_,)
