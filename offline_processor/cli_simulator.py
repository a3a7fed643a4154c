"""`offline-processor simulate-acquirer`: an acquirer for rehearsals and tests, which charges nobody.

Why here: the command line's part of the simulator: its clock, its signals, and what it says of itself.
Must not: read the processor's configuration, keys or ledger: it stands at the other end of the line.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import click

from keys import console
from keys.console import ExitCode
from keys.durable import write_durable, write_new_file
from offline_processor.acquirers.iso8583.protection import certificate_of
from offline_processor.acquirers.iso8583.tls import Certificate, ServingTls, serving
from offline_processor.acquirers.report import in_words, write_report
from offline_processor.acquirers.simulator.books import Books, report
from offline_processor.acquirers.simulator.faults import Fault, Faults
from offline_processor.acquirers.simulator.host import Host
from offline_processor.acquirers.simulator.server import Delays, Server
from offline_processor.acquirers.simulator.wire import IsoWire
from offline_processor.errors import ProcessorError

_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_EPILOG: Final = f"""\b
Examples:
  offline-processor simulate-acquirer --listen 127.0.0.1:0 --books books.db --port-file port
  offline-processor simulate-acquirer --books books.db --fault lost-after@authorisation/10
  offline-processor simulate-acquirer --books books.db --fault cut@reversal:3 --fault code-51@authorisation/7
  offline-processor simulate-acquirer --books books.db --profile own.toml --mac-key mac.key \\
    --tls-certificate host.pem --tls-key host.key --tls-authority clients.pem

\b
A fault is FAULT[@KIND][/N][:M]: at every Nth message of the kind, at most M times.
Faults: code-XX, mixed (any fault of the line), {", ".join(fault for fault in Fault if fault)}.
Kinds: network, authorisation, capture, reversal, refund, totals.
Amounts and cards ask for faults too: offline_processor/acquirers/simulator/faults.py has the list.
"""


@click.command("simulate-acquirer", epilog=_EPILOG)
@click.option(
    "--listen", default="127.0.0.1:0", show_default=True, metavar="HOST:PORT", help="Loopback only."
)
@click.option("--books", required=True, metavar="FILE", type=_FILE, help="Its books; made when not there.")
@click.option(
    "--profile", default="ascii-1987", show_default=True, metavar="NAME|FILE", help="As [acquirer] profile."
)
@click.option("--mac-key", metavar="FILE", type=_FILE, help="As [acquirer] mac_key; its check value is said.")
@click.option("--tls-certificate", metavar="FILE", type=_FILE, help="Its certificate: the line speaks TLS.")
@click.option("--tls-key", metavar="FILE", type=_FILE, help="The certificate's key, of mode 0600.")
@click.option(
    "--tls-authority", metavar="FILE", type=_FILE, help="Who calls shows a certificate of this one."
)
@click.option(
    "--latency", default=0.0, metavar="MS", type=click.FloatRange(0, 60_000), help="Before each answer."
)
@click.option(
    "--late",
    default=30.0,
    show_default=True,
    metavar="S",
    type=click.FloatRange(0, 600),
    help="How late is late.",
)
@click.option("--fault", "faults", multiple=True, metavar="FAULT", help="What goes wrong; may be repeated.")
@click.option(
    "--control", metavar="FILE", type=_FILE, help="More faults, one a line; read again when it changes."
)
@click.option("--seed", default=0, metavar="N", type=int, help="Of the faults that are drawn at random.")
@click.option("--forgetful", is_flag=True, help="Repeated advices are not recognised: each is booked anew.")
@click.option("--port-file", metavar="FILE", type=_FILE, help="Where to write HOST:PORT once it listens.")
def simulate_acquirer(
    *,
    listen: str,
    books: Path,
    profile: str,
    mac_key: Path | None,
    tls_certificate: Path | None,
    tls_key: Path | None,
    tls_authority: Path | None,
    latency: float,
    late: float,
    faults: tuple[str, ...],
    control: Path | None,
    seed: int,
    forgetful: bool,
    port_file: Path | None,
) -> ExitCode:
    """An acquirer's host that charges nobody: for rehearsals, on loopback, until Ctrl-C or SIGTERM.

    It books every authorisation that it sees, repeated or not, and declares itself a simulator at sign-on.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    tls = _tls(certificate_of(tls_certificate, tls_key), tls_authority)
    with ExitStack() as ends:
        wire = IsoWire(profile, now=lambda: int(time.time()), mac_key=mac_key, speaks_tls=tls is not None)
        ends.callback(wire.close)
        opened = Books(books)
        ends.callback(opened.close)
        rules = Faults(faults, control=control, seed=seed, has_mac=bool(wire.mac_check))
        host = Host(opened, rules, forgetful=forgetful)
        delays = Delays(latency=latency / 1000, late=late)
        server = Server(listen, host, wire, clock=time.monotonic, delays=delays, tls=tls)
        ends.callback(server.close)
        try:
            console.say(f"SIMULATED acquirer, charges nobody: listens on {server.address}, books {books}")
            if wire.mac_check:
                console.say(f"The check value of its MAC key is {wire.mac_check}")
            if port_file is not None:
                write_durable(port_file, f"{server.address}\n".encode("ascii"), 0o644)
            server.serve()
        except KeyboardInterrupt:
            console.say("SIMULATED acquirer stopped; its books are kept")
    return ExitCode.DONE


def _tls(ours: Certificate | None, authority: Path | None) -> ServingTls | None:
    if ours is not None:
        return serving(ours, authority)
    if authority is not None:
        raise ProcessorError(
            "SIMULATOR-PROTECTION",
            "an authority of callers' certificates is of no use without TLS",
            "give --tls-certificate and --tls-key too",
        )
    return None


@click.command(
    "acquirer-report", epilog="Example: offline-processor acquirer-report --books books.db --out r.csv"
)
@click.option("--books", required=True, metavar="FILE", type=_FILE, help="The simulated acquirer's books.")
@click.option("--out", required=True, metavar="FILE", type=_FILE, help="A new file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def acquirer_report(*, books: Path, out: Path, as_json: bool) -> ExitCode:
    """Rehearsal only: the simulated acquirer's report of transactions, from its own books."""
    if not books.is_file():
        raise ProcessorError("USAGE-BOOKS", f"there are no books at {books}", "correct --books")
    if os.path.lexists(out):
        raise ProcessorError("USAGE-OUT", f"{out} exists already", "choose another name")
    lines = report(books)
    write_new_file(out, [write_report(lines)])
    until = in_words(int(time.time()))
    if as_json:
        console.print_json({"report": out, "lines": len(lines), "until": until})
    else:
        console.say(f"SIMULATED acquirer's report: {out}, {len(lines)} transactions until {until}")
    return ExitCode.DONE


COMMANDS: Final = (simulate_acquirer, acquirer_report)
