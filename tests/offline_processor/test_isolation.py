"""Connected to nothing but the acquirer: read from tables of every shape, and from real network namespaces."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline_processor.circuit import Circuit
from offline_processor.isolation import leads_to, radios, ways_out
from tests.offline_processor.commands import ROOT, configure, processor
from tests.offline_processor.shop import Shop, open_shop

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CIRCUIT = Circuit(interface="acq0", address=ip_address("192.0.2.2"))
HEADER = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
DEV = "Inter-|   Receive\n face |bytes\n    lo:       0\n"
LOCAL = "Main:\n  |-- 127.0.0.1\n     /32 host LOCAL\n"
ALONE = {
    "route": HEADER,
    "fib_trie": LOCAL,
    "igmp": "Idx\tDevice    : Count Querier\n1\tlo        :     1      V3\n\t\t\t\t010000E0     1\n",
    "dev": DEV,
}
UP = ALONE["igmp"] + "3\tacq0      :     1      V3\n\t\t\t\t010000E0     1\n"
LINK = HEADER + "acq0 000200C0 00000000 0001 0 0 0 FCFFFFFF 0 0 0\n"
ADDRESS = LOCAL + "  |-- 192.0.2.1\n     /32 host LOCAL\n"
CONNECTED = {"route": LINK, "fib_trie": ADDRESS, "igmp": UP}


def route6(network: str, length: int, device: str, *, hop: str = "0" * 32, flags: str = "00000001") -> str:
    words = (network, f"{length:02x}", "0" * 32, "00", hop, "00000100", "00000001", "00000000", flags, device)
    return " ".join(words) + "\n"


LINK_LOCAL = "fe80" + "0" * 28
IPV6 = {
    "ipv6_route": route6(LINK_LOCAL, 64, "acq0") + route6("ff" + "0" * 30, 8, "acq0"),
    "if_inet6": f"{LINK_LOCAL[:-2]}0b 03 40 20 c0     acq0\n",
}


@pytest.fixture
def look(tmp_path: Path) -> Callable[..., list[str]]:
    def at(*, circuit: Circuit | None = None, resolv_conf: str = "", **tables: str) -> list[str]:
        folder = tmp_path / "net"
        folder.mkdir(exist_ok=True)
        for name, content in {**ALONE, **tables}.items():
            (folder / name).write_text(content)
        (tmp_path / "resolv.conf").write_text(resolv_conf)
        return ways_out(circuit, proc_net=folder, resolv_conf=tmp_path / "resolv.conf")

    return at


def test_loopback_alone_is_no_way_out(look: Callable[..., list[str]]) -> None:
    address = "00000000000000000000000000000001 01 80 10 80       lo\n"
    assert look(if_inet6=address, ipv6_route=route6("0" * 32, 0, "lo", flags="00200200")) == []


@pytest.mark.parametrize(
    ("table", "content", "found"),
    [
        ("route", HEADER + "eth0\t00000000\t0102A8C0\n", "IPv4 route through eth0"),
        ("route", LINK, "IPv4 route to 192.0.2.0/30 through acq0"),
        ("ipv6_route", route6("0" * 32, 0, "wlan0"), "IPv6 route to ::/0 through wlan0"),
        ("ipv6_route", f"{'0' * 32} 00 {'0' * 32} wlan0\n", "IPv6 route through wlan0"),
        ("if_inet6", "fe800000000000000000000000000001 02 40 20 80     eth0\n", "IPv6 address on eth0"),
        ("fib_trie", LOCAL + "  |-- 10.0.0.7\n     /32 host LOCAL\n", "IPv4 address 10.0.0.7"),
        (
            "fib_trie",
            LOCAL + "Id 100:\n  |-- 0.0.0.0\n     /0 universe UNICAST\n",
            "IPv4 routes in table 100",
        ),
        ("igmp", UP, "interface acq0 is up"),
        (
            "udp",
            " sl local\n  1: 3500007F:0035 00000000:0000 07\n",
            "a name server listens on this machine (UDP port 53)",
        ),
    ],
)
def test_everything_but_loopback_is_a_way_out(
    look: Callable[..., list[str]], table: str, content: str, found: str
) -> None:
    assert look(**{table: content}) == [found]


def test_wall_in_the_routing_table_is_no_way_out(look: Callable[..., list[str]]) -> None:
    wall = "* 00000000 00000000 0200 0 0 0 00000000 0 0 0\n"
    assert (
        look(route=HEADER + wall, fib_trie=LOCAL + "Id 7:\n  |-- 0.0.0.0\n     /0 link UNREACHABLE\n") == []
    )


def test_kernel_that_does_not_say_which_interfaces_are_up_has_all_of_them_up(
    tmp_path: Path, look: Callable[..., list[str]]
) -> None:
    look(dev=DEV + "  eth0:       0\n")
    (tmp_path / "net" / "igmp").unlink()
    assert ways_out(proc_net=tmp_path / "net", resolv_conf=tmp_path / "none") == ["interface eth0 is up"]


def test_machine_whose_tables_cannot_be_read_does_not_pass_for_isolated(tmp_path: Path) -> None:
    assert len(ways_out(proc_net=tmp_path)) == 3


# The circuit


def test_circuit_alone_is_allowed(look: Callable[..., list[str]]) -> None:
    assert look(circuit=CIRCUIT, **CONNECTED, **IPV6) == []
    assert look(**CONNECTED) != []


def test_acquirer_behind_a_router_of_the_circuit_is_allowed(look: Callable[..., list[str]]) -> None:
    far = Circuit(interface="acq0", address=ip_address("203.0.113.9"))
    host = "acq0 097100CB 020200C0 0007 0 0 0 FFFFFFFF 0 0 0\n"
    assert look(circuit=far, route=LINK + host, fib_trie=ADDRESS, igmp=UP) == []
    assert look(circuit=far, route=LINK, fib_trie=ADDRESS, igmp=UP) != []  # the link leads nowhere near it


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        (
            {"route": LINK + "acq0 00000000 020200C0 0003 0 0 0 00000000 0 0 0\n"},
            "IPv4 route to 0.0.0.0/0 through acq0",
        ),
        (
            {"route": LINK + "acq0 000000C0 020200C0 0003 0 0 0 000000FF 0 0 0\n"},
            "IPv4 route to 192.0.0.0/8 through acq0",
        ),
        (
            {"route": LINK + "eth1 000200C0 00000000 0001 0 0 0 FCFFFFFF 0 0 0\n"},
            "IPv4 route to 192.0.2.0/30 through eth1",
        ),
        ({"igmp": UP + "4\teth1      :     1      V3\n"}, "interface eth1 is up"),
        ({"fib_trie": ADDRESS + "  |-- 10.0.0.7\n     /32 host LOCAL\n"}, "IPv4 address 10.0.0.7"),
        (
            {
                "ipv6_route": IPV6["ipv6_route"]
                + route6("0" * 32, 0, "acq0", hop=LINK_LOCAL, flags="00450003")
            },
            "IPv6 route to ::/0 through acq0",
        ),
        ({"if_inet6": "20010db8000000000000000000000001 03 40 00 80 acq0\n"}, "IPv6 address on acq0"),
        ({"resolv_conf": "nameserver 192.0.2.2\n"}, "name server 192.0.2.2 can be reached through acq0"),
    ],
)
def test_circuit_and_anything_more_is_not(
    look: Callable[..., list[str]], changes: dict[str, str], found: str
) -> None:
    assert look(circuit=CIRCUIT, **{**CONNECTED, **IPV6, **changes}) == [found]


def test_name_server_that_no_route_leads_to_is_no_way_out(look: Callable[..., list[str]]) -> None:
    assert (
        look(circuit=CIRCUIT, **CONNECTED, resolv_conf="nameserver 9.9.9.9\n# nameserver 192.0.2.2\n") == []
    )


def test_circuit_that_is_down_is_seen(tmp_path: Path, look: Callable[..., list[str]]) -> None:
    assert look(circuit=CIRCUIT) == []
    assert not leads_to(CIRCUIT, proc_net=tmp_path / "net")
    look(circuit=CIRCUIT, **CONNECTED)
    assert leads_to(CIRCUIT, proc_net=tmp_path / "net")


@given(text=st.text(max_size=200))
def test_no_table_whatever_it_holds_stops_the_look(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any-table"
    folder.mkdir(exist_ok=True)
    for name in (*ALONE, "ipv6_route", "if_inet6", "udp"):
        (folder / name).write_text(text)
    for circuit in (None, CIRCUIT):
        assert isinstance(ways_out(circuit, proc_net=folder, resolv_conf=folder / "dev"), list)


# Radios


def test_radio_counts_until_it_is_switched_off(tmp_path: Path) -> None:
    assert radios(tmp_path) == []
    (tmp_path / "ieee80211" / "phy0").mkdir(parents=True)
    (tmp_path / "bluetooth" / "hci0").mkdir(parents=True)
    (tmp_path / "bluetooth" / "hci0:11").mkdir()
    assert radios(tmp_path) == ["wireless radio hci0 is switched on", "wireless radio phy0 is switched on"]
    for number, (name, soft, hard) in enumerate([("phy0", "1", "0"), ("hci0", "0", "1")]):
        switch = tmp_path / "rfkill" / f"rfkill{number}"
        switch.mkdir(parents=True)
        for file, content in (("name", name), ("soft", soft), ("hard", hard)):
            (switch / file).write_text(f"{content}\n")
    assert radios(tmp_path) == []
    (tmp_path / "rfkill" / "rfkill0" / "soft").write_text("0\n")
    assert radios(tmp_path) == ["wireless radio phy0 is switched on"]


# Real network namespaces, with real keys: no rehearsal is excused here


@pytest.fixture
def network(tool: Callable[[str], Path]) -> Callable[[str], list[str]]:
    """The beginning of a command line: the command runs in a network namespace of the given kind."""
    unshare = str(tool("network-namespace"))
    tool("ip")

    def of(kind: str) -> list[str]:
        for flags in (["--net"], ["--user", "--map-root-user", "--net"]):
            if subprocess.run([unshare, *flags, "true"], capture_output=True, check=False).returncode == 0:
                child = "tests.offline_processor.circuit_child"
                return [unshare, *flags, sys.executable, "-m", child, kind, unshare]
        raise AssertionError("the tool was found, but does not work")

    return of


def real_shop(root: Path, acquirer: str) -> tuple[Shop, Path]:
    shop = open_shop(root, now=int(time.time()) - 60, rehearsal=False, batch_keys=30)
    shop.bundle([shop.seal(number) for number in range(3)])
    config = configure(shop)
    config.write_text(config.read_text().partition("[acquirer]")[0] + f"[acquirer]\n{acquirer}")
    return shop, config


OPERATOR = 'driver = "operator"\n'
OVER_THE_CIRCUIT = (
    'driver = "iso8583"\naddress = "192.0.2.2:5000"\ninterface = "acq0"\n'
    'merchant = "RECORDSTORE0001"\nterminal = "SHOP0001"\n'
)


def checks(document: Any) -> dict[str, list[str]]:
    return {check["check"]: [found["rule"] for found in check["findings"]] for check in document["checks"]}


def test_preflight_passes_where_there_is_no_way_out(
    tmp_path: Path, network: Callable[[str], list[str]]
) -> None:
    _, config = real_shop(tmp_path, OPERATOR)
    ran = processor("preflight", config, "--json", program=[*network("none"), "-m", "offline_processor"])
    assert (ran.code, ran.document["passed"]) == (0, True), ran.out + ran.err
    assert not any(checks(ran.document).values())


def test_run_opens_no_order_where_there_is_a_route_out(
    tmp_path: Path, network: Callable[[str], list[str]]
) -> None:
    shop, config = real_shop(tmp_path, OPERATOR)
    program = [*network("route-out"), "-m", "offline_processor"]
    for command in ("preflight", "run", "receive", "day"):
        ran = processor(command, config, "--json", program=program)
        assert (ran.code, ran.document["rule"]) == (4, "RUN-NOT-ISOLATED"), ran.out + ran.err
        assert "IPv4 route to 0.0.0.0/0 through out0" in ran.document["message"]
        assert "unshare -rn" in ran.document["remedy"]
    assert not (shop.root / "state" / "ledger.db").exists()


def test_run_goes_to_the_acquirer_over_the_circuit_alone(
    tmp_path: Path, network: Callable[[str], list[str]]
) -> None:
    _, config = real_shop(tmp_path, OVER_THE_CIRCUIT)
    program = [*network("circuit"), "-m", "offline_processor"]
    looked = processor("preflight", config, "--json", program=program)
    assert (looked.code, checks(looked.document)["network"]) == (0, []), looked.out + looked.err
    ran = processor("run", config, "--json", program=program)
    assert ran.document["rule"] == "ACQUIRER-SIGN-ON"  # it got there: the host took the line and said nothing
    assert "connection from 192.0.2.1" in ran.err


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("circuit-and-another", "interface more0 is up"),
        ("circuit-and-default", "IPv4 route to 0.0.0.0/0 through acq0"),
    ],
)
def test_circuit_with_another_way_out_is_refused_before_anything_is_sent(
    tmp_path: Path, network: Callable[[str], list[str]], kind: str, found: str
) -> None:
    _, config = real_shop(tmp_path, OVER_THE_CIRCUIT)
    ran = processor("run", config, "--json", program=[*network(kind), "-m", "offline_processor"])
    assert (ran.code, ran.document["rule"]) == (4, "RUN-NOT-ISOLATED")
    assert found in ran.document["message"]
    assert "connection from" not in ran.err


def test_circuit_that_is_down_is_a_finding_and_bundles_can_be_received(
    tmp_path: Path, network: Callable[[str], list[str]]
) -> None:
    _, config = real_shop(tmp_path, OVER_THE_CIRCUIT)
    program = [*network("none"), "-m", "offline_processor"]
    looked = processor("preflight", config, "--json", program=program)
    assert (looked.code, checks(looked.document)["network"]) == (3, ["CIRCUIT-DOWN"])
    assert processor("receive", config, "--json", program=program).document["received"] == [
        "shop-a/b00000001"
    ]


# What a run gives up


def confined(*options: str) -> dict[str, Any]:
    words = [sys.executable, "-m", "tests.offline_processor.confined_child", *options]
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


@pytest.mark.needs_tool("network-namespace")
@pytest.mark.parametrize("who", ["as-it-is", "without-privileges"])
def test_process_gives_up_its_network_and_new_privileges(who: str) -> None:
    found = confined("give-up", who)
    assert found["kept"] == []
    assert found["before"] != found["after"]
    assert (found["ways_out"], found["loopback_answers"]) == ([], False)
    assert found["no_new_privileges"] == "1"
    assert found["owner_kept"] is True


def test_process_that_needs_its_network_keeps_it_and_nothing_else() -> None:
    found = confined("keep", "as-it-is")
    assert found["before"] == found["after"]
    assert found["no_new_privileges"] == "1"


@pytest.mark.needs_tool("network-namespace")
def test_run_with_an_acquirer_that_needs_no_line_has_no_network(tmp_path: Path) -> None:
    shop = open_shop(tmp_path, now=int(time.time()) - 60)
    shop.bundle([shop.seal(number) for number in range(3)])
    config = configure(shop)
    child = (sys.executable, "-m", "tests.offline_processor.confined_child", "command")
    ran = processor("run", config, "--confirm", "3 orders: EUR 74.97", "--json", program=child)
    assert ran.code == 0, ran.err
    assert json.loads(ran.err.splitlines()[-1]) == {"network_left": True, "no_new_privileges": "1"}
    assert len(shop.charges()) == 3
