"""What can be seen of the machine that a ceremony is held on, for people to compare with what they see.

Why here: swap, core dumps and locked memory decide whether secrets stay in memory; the rest only a person can judge.
Must not: claim isolation: a cable or a camera shows from outside only.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from keys.private.swap import check_swap

if TYPE_CHECKING:
    from keys.private.swap import OnSwap

_NETWORK: Final = Path("/sys/class/net")
_UP: Final = ("up", "unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """``swap_mark`` is set where swap is not encrypted and the risk was accepted."""

    name: str
    system: str
    clock: str
    swap_mark: str | None
    core_dumps: bool
    lock_limit: str
    interfaces: tuple[str, ...]

    def lines(self) -> list[str]:
        """As the screen shows it."""
        links = ", ".join(self.interfaces) or "none seen"
        return [
            f"Machine      {self.name} ({self.system})",
            f"Clock        {self.clock}: compare with a watch",
            f"Swap         {self.swap_mark or 'none, or encrypted'}",
            f"Core dumps   {'POSSIBLE' if self.core_dumps else 'off'}",
            f"Lock limit   {self.lock_limit}",
            f"Network up   {links}: interfaces that may be up",
        ]


def look(now: int, on_swap: OnSwap) -> Machine:
    """Look at this machine at ``now`` (Unix seconds). ``SWAP-NOT-ENCRYPTED``."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    system = os.uname()
    return Machine(
        name=system.nodename,
        system=f"{system.sysname} {system.release}",
        clock=datetime.fromtimestamp(now, UTC).strftime("%A %Y-%m-%d %H:%M:%S UTC"),
        swap_mark=check_swap(on_swap),
        core_dumps=resource.getrlimit(resource.RLIMIT_CORE)[0] != 0,
        lock_limit="unlimited" if soft == resource.RLIM_INFINITY else f"{soft // 1024} KiB",
        interfaces=_interfaces(),
    )


def _interfaces() -> tuple[str, ...]:
    found = []
    for entry in sorted(_NETWORK.iterdir()) if _NETWORK.is_dir() else []:
        try:
            state = (entry / "operstate").read_text("ascii").strip()
        except OSError:
            continue
        if entry.name != "lo" and state in _UP:
            found.append(entry.name)
    return tuple(found)
