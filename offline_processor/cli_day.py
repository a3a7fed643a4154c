"""`offline-processor day`: a whole day's work, guided, one step after another.

Why here: the command line's part of the guided day.
Must not: hold a step's rules, or keep a key open while something is printed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from keys import console
from keys.console import ExitCode
from keys.passphrases import Descriptors
from offline_processor import cli_work
from offline_processor.cli_steps import at_work
from offline_processor.cli_work import CLOCK, CONFIRM, DRY_RUN, NO_INPUT
from offline_processor.guided_day import GuidedDay
from offline_processor.station import Station


@click.command(
    "day",
    epilog="\b\nExamples:\n"
    "  offline-processor day --config offline.toml\n"
    "  offline-processor day --config offline.toml --no-input --confirm '40 orders: EUR 812.50'",
)
@console.shared_options
@CONFIRM
@CLOCK
@DRY_RUN
@NO_INPUT
@click.option(
    "--papers",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Write the carrier's file, packing slips, labels and the day report there.",
)
@click.option("--printer", metavar="NAME", help="Print slips and labels on this queue of CUPS.")
@console.keystore_passphrase_option
@click.pass_context
def day(
    context: click.Context,
    *,
    config: Path,
    confirm: str | None,
    clock_is_right: bool,
    dry_run: bool,
    no_input: bool,
    papers: Path | None,
    printer: str | None,
    passphrase_fds: Descriptors,
    as_json: bool,
) -> ExitCode:
    """The day's work, guided: pre-flight, medium in, control total, charging, return, cases, paper.

    Each step is a command of its own too: preflight, inspect and receive, run, write-return, cases, export and print.
    After a crash, a pulled plug or Ctrl-C the same command goes on from what is recorded.
    """
    station: Station = context.obj
    if as_json and (papers or printer):
        raise click.UsageError(
            "with --json the day prints one document: export and print by their own commands"
        )
    with at_work(
        station,
        config,
        passphrase_fds,
        as_json=as_json,
        charges=not dry_run,
        clock_is_right=clock_is_right and not dry_run,
    ) as work:
        asks = not no_input and console.is_terminal()
        today = GuidedDay(work=work, config=config, asks=asks, given=confirm)
        if dry_run:
            work.preflight().require()
            return cli_work.dry(work)
        steps: tuple[Callable[[], None], ...] = (
            today.look_around,
            today.take_in,
            today.confirm,
            today.charge,
            today.answer_shop,
            today.name_cases,
        )
        try:
            for step in steps:
                step()
                if today.charged.stopped:
                    break
        except (KeyboardInterrupt, click.Abort):
            work.bars.stop()
            console.warn(f"Stopped. Done so far: {'; '.join(today.done) or 'nothing'}.", style="bold")
            raise
        code = today.code()
    if not (today.charged.stopped or as_json):
        today.put_on_paper(context, papers, printer)
    return today.end(code)


COMMANDS: Final = (day,)
