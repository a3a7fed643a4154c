"""Shared fixtures of the transfer room's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.transfer.house import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(root=tmp_path)
    yield made
    made.close()
