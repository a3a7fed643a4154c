"""Shared fixtures of the offline room's tests: a shop with one enrolled node, closed when the test ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.offline_processor.shop import Shop, open_shop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = open_shop(tmp_path)
    yield made
    made.keystore.close()
