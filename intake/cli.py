"""`intake`: the command of the online host.

Why here: the only part of this room that reads the clock, the environment and the terminal.
Must not: take a secret on the command line, or show card data.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from intake import cli_check_page, cli_subject, cli_trust, cli_webhooks
from intake.catalogue import SHIPPED, load_catalogue
from intake.cli_trust import health_of, read_limits, read_settings
from intake.enquiries import cli as enquiry_commands
from intake.forms import OrderStatus
from intake.front import Front
from intake.money import control_total
from intake.newsletter import cli as newsletter_commands
from intake.sample import SampleReceipt, post_orders, sample_orders
from intake.server import build, enter_worker, prepare, register_path, serve
from intake.surroundings import Outside, Shared, share
from keys import console
from keys.console import ExitCode, say, shared_options, warn
from keys.durable import write_durable
from transfer import listing
from transfer.cli_shown import show_notices

_EXAMPLES = """
\b
Examples:
  intake trust for-shop-a --config node.toml
  intake serve --config node.toml
  intake sample --url http://127.0.0.1:8080 --count 40
  intake status --config node.toml --json
  intake orders --config node.toml --state declined
  intake check-page https://shop.example
  intake newsletter send december.toml --config node.toml
  intake webhooks send --follow --config node.toml
  intake enquiries list --config node.toml
"""


@click.group(name="intake", epilog=_EXAMPLES)
def commands() -> None:
    """Take orders, seal them to the offline side's keys, and show how they fared."""


cli_trust.register(commands)
cli_check_page.register(commands)
newsletter_commands.register(commands)
cli_webhooks.register(commands)
enquiry_commands.register(commands)
cli_subject.register(commands)


@commands.command("serve", epilog="Example: intake serve --config node.toml")
@shared_options
def serve_command(*, config: Path, as_json: bool) -> ExitCode:
    """Take orders over HTTP until stopped."""
    del as_json  # a server has no report
    node, intake = read_settings(config)
    prepare(node, intake, read_limits(config), random=os.urandom)
    health = health_of(node).report()
    warn(f"intake of node {node.node} on http://{intake.bind}, {health.keys_left} batch keys left")
    show_notices(health.notices)
    serve(intake, partial(_application, config, os.getpid(), share(random=os.urandom)))
    return ExitCode.DONE


@commands.command(
    "sample", epilog="Example: intake sample --url http://127.0.0.1:8080 --count 40 --receipts FILE"
)
@click.option("--url", required=True, help="Where the intake answers.")
@click.option(
    "--count", default=40, show_default=True, type=click.IntRange(1, 100_000), help="How many orders."
)
@click.option("--seed", default=1, show_default=True, type=int, help="Another seed gives other orders.")
@click.option(
    "--receipts", type=click.Path(path_type=Path, dir_okay=False), help="Write ids and tokens here."
)
@click.option(
    "--catalogue", type=click.Path(path_type=Path, dir_okay=False), default=SHIPPED, help="The server's."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
def sample_command(
    *, url: str, count: int, seed: int, receipts: Path | None, catalogue: Path, as_json: bool
) -> ExitCode:
    """Post realistic orders with public test cards, some of which the simulator declines."""
    year = datetime.fromtimestamp(time.time(), UTC).year
    orders = sample_orders(load_catalogue(catalogue), count=count, seed=seed, year=year)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not console.is_terminal()) as progress:
        task = progress.add_task("posting orders", total=count)
        taken = post_orders(url, orders, progress=lambda _: progress.advance(task))
    total = control_total((receipt.amount, receipt.currency) for receipt in taken)
    if receipts:
        # The tokens open the orders' statuses, so the file is for its owner only.
        write_durable(receipts, _receipts(taken, total))
    if as_json:
        console.print_json({"orders": len(taken), "control_total": total, "receipts": receipts})
    else:
        say(total)
        if receipts:
            say(f"Order numbers and access tokens are in {receipts}.")
    return ExitCode.DONE


@commands.command("orders", epilog="Example: intake orders --config node.toml --state declined")
@shared_options
@click.option(
    "--state", type=click.Choice([state.value for state in OrderStatus]), help="Only orders in this state."
)
@click.option(
    "--limit", default=100, show_default=True, type=click.IntRange(1, 1_000_000), help="At most so many."
)
def orders_command(*, config: Path, as_json: bool, state: str | None, limit: int) -> ExitCode:
    """List orders and their states, the newest first."""
    node, _ = read_settings(config)
    rows = listing.newest(register_path(node), limit=limit, status=state)
    if as_json:
        console.print_json({"orders": [asdict(row) for row in rows]})
    else:
        shown = [
            (
                row.order_id,
                row.status,
                "" if row.reason == "none" else row.reason,
                "" if row.sequence is None else row.sequence,
                _time(row.received_at),
                _time(row.changed_at) if row.changed_at else "",
            )
            for row in rows
        ]
        console.table("Orders", ("order", "state", "reason", "bundle", "received", "changed"), shown)
    return ExitCode.DONE if rows else ExitCode.NOTHING_TO_DO


def main() -> NoReturn:
    """Run the command and leave with its exit code."""
    console.run(commands)


def _application(config: Path, parent: int, shared: Shared) -> Front:
    """In a worker process: the application with the real clock."""
    enter_worker(parent)
    node, intake = read_settings(config)
    outside = Outside(
        now=time.time,
        ticks=time.perf_counter,
        random=os.urandom,
        worker=os.getpid(),
        log_to=sys.stderr.fileno(),
    )
    return build(node, intake, read_limits(config), shared=shared, outside=outside)


def _receipts(taken: Sequence[SampleReceipt], total: str) -> bytes:
    document: dict[str, Any] = {"control_total": total, "orders": list(taken)}
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
