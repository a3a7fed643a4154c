"""Is this machine really connected to nothing? Read from the kernel's own tables, without a socket.

Why here: "not connected to the Internet" is checked before every run, not assumed.
Must not: change the network, or be switched off; only a rehearsal keystore may go on, marked NOT ISOLATED.
"""

from __future__ import annotations

import re
from pathlib import Path

_LOOPBACK = "lo"
_IPV4_TABLES = ("route", "fib_trie")  # a kernel without IPv6 has none of the others
_LOCAL_ADDRESS = re.compile(r"\|-- (\S+)\n\s+/32 host LOCAL")


def ways_out(proc_net: Path = Path("/proc/self/net")) -> list[str]:
    """Every address and route of this network namespace that is not loopback's, in words; empty when isolated.

    ``/proc/self/net`` shows this process's own namespace; ``/sys/class/net`` would show the one it was mounted in.
    """
    found = {f"IPv4 route through {row[0]}" for row in _table(proc_net / "route")[1:] if row[0] != _LOOPBACK}
    found |= {
        f"IPv6 route through {row[-1]}" for row in _table(proc_net / "ipv6_route") if row[-1] != _LOOPBACK
    }
    found |= {f"IPv6 address on {row[-1]}" for row in _table(proc_net / "if_inet6") if row[-1] != _LOOPBACK}
    found |= {
        f"IPv4 address {address}"
        for address in _LOCAL_ADDRESS.findall(_text(proc_net / "fib_trie"))
        if not address.startswith("127.")
    }
    # What cannot be read may hide anything.
    found |= {
        f"unknown: {table} cannot be read" for table in _IPV4_TABLES if not (proc_net / table).is_file()
    }
    return sorted(found)


def _text(table: Path) -> str:
    return table.read_text() if table.is_file() else ""


def _table(table: Path) -> list[list[str]]:
    return [line.split() for line in _text(table).splitlines() if line.strip()]
