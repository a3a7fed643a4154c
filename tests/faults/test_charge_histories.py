"""Captures, releases, refunds and expiry over many histories, and killed at many steps: the acquirer's books judge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.sweep import at_most
from tests.offline_processor.test_charge_machine import run_machine
from tests.offline_processor.test_desk_killed import sweep

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.faults


def test_books_bound_and_agree_over_many_histories() -> None:
    run_machine(examples=at_most("HISTORIES", 40), steps=30)


def test_commands_that_are_killed_at_many_steps_are_done_once_when_given_again(tmp_path: Path) -> None:
    sweep(tmp_path, limit=at_most("DESK", 60))
