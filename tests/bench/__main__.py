"""`make bench`: rates as ratios to bare libsodium boxes, measured in the same run on the same machine."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table

from tests.bench import intake, line, offline, page, paper, push
from tests.end_to_end.browser import NoBrowserError

CONNECTIONS = 32
AIM_INTAKE, AIM_P99_MS, AIM_OFFLINE, AIM_PUSH = 0.30, 25.0, 0.55, 0.5
AIM_LINK = 0.8


def _show_line(console: Console) -> None:
    linked = line.link_figures()
    table = Table("link", "messages/s", "of", "ratio", title_justify="left")
    table.title = f"The ISO 8583 link: authorisations by its driver, {line.COMMIT} at a time, one connection"
    for found in linked.latency:
        table.add_row(
            f"window {found.window}, {line.LATENCY_MS:.0f} ms of host latency",
            f"{found.rate:,.0f}",
            f"{found.most:,.0f} (window/latency)",
            f"{found.rate / found.most:.2f} (aim {AIM_LINK})",
        )
    for found in line.charging_figures():
        table.add_row(
            f"the whole charging over it, window {found.window}, {line.LATENCY_MS:.0f} ms",
            f"{found.rate:,.0f}",
            f"{found.most:,.0f} (window/latency)",
            f"{found.rate / found.most:.2f} (aim {AIM_LINK})",
        )
    table.add_row(
        f"window {line.WINDOWS[-1]}, a host that answers at once",
        f"{linked.at_once:,.0f}",
        f"{linked.bare:,.0f} (bare encode + decode)",
        f"{linked.at_once / linked.bare:.2f}",
    )
    for mac, rate in linked.with_mac.items():
        table.add_row(
            f"the same with a MAC on every message ({mac})",
            f"{rate:,.0f}",
            f"{linked.at_once:,.0f} (without)",
            f"{rate / linked.at_once:.2f}",
        )
    console.print(table, "")

    table = Table("simulated acquirer", "messages/s", "window/latency", title_justify="left")
    table.title = "The simulated acquirer on one connection, its books in memory: what it can answer at most"
    for found in line.simulator_figures():
        most = f"{found.most:,.0f} ({found.rate / found.most:.2f})" if found.most else "answers at once"
        table.add_row(f"window {found.window}", f"{found.rate:,.0f}", most)
    console.print(table, "")


@click.command()
@click.option("--quick", is_flag=True, help="Leave out the run of 100,000 orders.")
def bench(*, quick: bool) -> None:
    """Measure intake and offline run against bare sealing and opening of the same boxes."""
    console = Console()
    seal, unseal = offline.bare_rates()
    console.print(
        f"Bare SealedBox, both boxes of an order, one core: seal {seal:,.0f}/s, open {unseal:,.0f}/s\n"
    )

    _intake(console)
    _pages(console)
    _paper(console, quick=quick)

    pushed = push.run(orders=10_000 if quick else push.ORDERS)
    table = Table(
        "push", "seconds", "cp + sha256sum + sync", "ratio", "us CPU an order", title_justify="left"
    )
    table.title = "spool-sync push: cut, signed, written, read back; against one copy of the same bytes"
    table.add_row(
        f"{pushed.orders:,} orders, {pushed.bytes / 1e6:.0f} MB, {pushed.bundles} bundles",
        f"{pushed.push_s:.2f}",
        f"{pushed.bare_s:.2f}",
        f"{pushed.ratio:.2f} (aim {AIM_PUSH})",
        f"{pushed.cpu_us:.1f}",
    )
    console.print(table, "")

    _show_line(console)

    sizes = offline.SIZES[:-1] if quick else offline.SIZES
    table = Table(
        "offline run", "orders/s", "bare open/s", "ratio", "us an order", "peak MiB", title_justify="left"
    )
    table.title = "Offline run: verify, open, screen, intents, authorise, capture, outcomes, return"
    for figure in offline.run(sizes):
        table.add_row(
            f"{figure.orders:,} orders" + ("" if figure.books else ", without the simulator's books"),
            f"{figure.rate:,.0f}",
            f"{figure.bare_rate:,.0f}",
            f"{figure.ratio:.2f} (aim {AIM_OFFLINE})",
            f"{1e6 / figure.rate:.0f}",
            f"{figure.peak_mib:.0f}",
        )
    console.print(table)


def _pages(console: Console) -> None:
    try:
        figures = page.run()
    except NoBrowserError as error:
        console.print(f"Pages: not measured, {error}\n")
        return
    columns = ("requests", "kB sent", "kB unpacked", "first paint ms", "ready ms", "blocked ms")
    table = Table("page", "on", *columns, title_justify="left")
    table.title = (
        "Pages, first visit: ready is painted, form open, program done; "
        "slow phone: processor 4 times slower, 1.6 Mbit/s, 150 ms"
    )
    for one in figures:
        table.add_row(
            one.page,
            one.device,
            str(one.requests),
            f"{one.sent / 1000:.1f}",
            f"{one.size / 1000:.1f}",
            f"{one.paint_ms:.0f}",
            f"{one.ready_ms:.0f}",
            f"{one.blocked_ms:.0f}",
        )
    console.print(table, "")


def _paper(console: Console, *, quick: bool) -> None:
    table = Table(
        "paper and files",
        "seconds",
        "CPU s",
        "us CPU an order",
        "peak MiB",
        "MB written",
        title_justify="left",
    )
    table.title = "Packing slips and labels (PDF), the carrier's file (CSV), the day report (HTML and PDF)"
    for made in paper.run(quick=quick):
        table.add_row(
            f"{made.what}, {made.orders:,} orders",
            f"{made.seconds:.1f}",
            f"{made.cpu_s:.1f}",
            f"{1e6 * made.cpu_s / made.orders:.0f}",
            f"{made.peak_mib:.0f}",
            f"{made.bytes / 1e6:.1f}",
        )
    console.print(table)


def _intake(console: Console) -> None:
    table = Table(
        "durable orders",
        "connections",
        "orders/s",
        "bare seal/s",
        "ratio",
        "p50 ms",
        "p99 ms",
        title_justify="left",
    )
    table.title = "Intake, one worker, client on the other core"
    for figure in intake.run_all():
        is_aimed = figure.connections == CONNECTIONS and not figure.sealed
        table.add_row(
            "browser-sealed" if figure.sealed else "server-sealed",
            str(figure.connections),
            f"{figure.rate:,.0f}",
            f"{figure.bare_rate:,.0f}",
            f"{figure.ratio:.2f}" + (f" (aim {AIM_INTAKE})" if is_aimed else ""),
            f"{figure.p50_ms:.1f}",
            f"{figure.p99_ms:.1f}" + (f" (aim {AIM_P99_MS:.0f})" if is_aimed else ""),
        )
    console.print(table, "")
    crowd = intake.run_overload()
    table = Table("intake at twice the load it can take", "", title_justify="left")
    for name, value in (
        ("can take", f"{crowd.can_take:,.0f}/s at 128 connections"),
        ("was offered", f"{crowd.offered:,.0f}/s for four seconds, waiting for no answer"),
        ("took", f"{crowd.goodput:,.0f}/s ({crowd.goodput / crowd.can_take:.2f} of what it can take)"),
        ("accepted orders", f"{crowd.accepted:,} at p50 {crowd.p50_ms:,.0f} ms, p99 {crowd.p99_ms:,.0f} ms"),
        ("told to come again", f"{crowd.busy:,} (503 with Retry-After)"),
        ("not answered or not sent", f"{crowd.unanswered:,}"),
        ("accepted and not in the spool", f"{crowd.lost}"),
        ("can take afterwards", f"{crowd.rate_after:,.0f}/s"),
    ):
        table.add_row(name, value)
    console.print(table, "")


if __name__ == "__main__":
    bench()
