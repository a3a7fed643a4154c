"""Captures, releases, refunds and expiry over many histories: the acquirer's books judge each."""

from __future__ import annotations

import pytest

from tests.offline_processor.test_charge_machine import run_machine

pytestmark = pytest.mark.faults


def test_books_bound_and_agree_over_many_histories() -> None:
    run_machine(examples=60, steps=30)
