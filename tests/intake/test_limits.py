"""Rate limits: the window slides, workers count together, and only a trusted proxy says who the client is."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import intake
from intake.asgi import BODY_LIMIT
from intake.clients import Client, Clients, networks
from intake.errors import IntakeError
from intake.limits import LETTERS, ORDERS, REQUESTS, TOKENS, Limits, LimitsConfig
from intake.rate_table import KEY_SIZE, Rate, RateTable, make_table
from intake.surroundings import check_settings
from keys.config import load
from keys.errors import RuleError
from tests.intake.answers import problem
from tests.intake.node import Answer, Node
from tests.intake.orders import good_order, new_key

NewNode = Callable[[], Node]
NOW = 1_800_000_000.0
TOLD = ["PROXY-UNNAMED"]


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = make_table(bytes(KEY_SIZE))
    yield descriptor
    os.close(descriptor)


def test_the_limit_is_reached_and_waiting_as_told_is_enough(memory: int) -> None:
    table, rate = RateTable(memory), Rate(limit=10, seconds=60)
    now = NOW
    for _ in range(200):
        while not (wait := table.take([(7, rate)], now)):
            now += 0.01
        assert table.take([(7, rate)], now + wait) == 0
        now += wait


@given(st.lists(st.floats(0, 30), min_size=20, max_size=120), st.integers(1, 12), st.sampled_from([1, 7, 60]))
@settings(max_examples=60)
def test_no_window_ever_holds_twice_the_limit_and_each_two_windows_hold_it_about(
    steps: list[float], limit: int, seconds: int
) -> None:
    memory = make_table(bytes(KEY_SIZE))
    table, rate = RateTable(memory), Rate(limit=limit, seconds=seconds)
    now, taken = NOW, []
    for step in steps:
        now += step * seconds / 60
        if not table.take([(1, rate)], now):
            taken.append(now)
    os.close(memory)
    for start in taken:
        # The estimate takes the window before as even; so never more than the limit in one fixed window.
        assert sum(start <= moment < start + seconds for moment in taken) < 2 * limit + 1
    for window in {int(moment) // seconds for moment in taken}:
        assert sum(int(moment) // seconds == window for moment in taken) <= limit


def test_one_refused_tag_counts_none_of_them(memory: int) -> None:
    table = RateTable(memory)
    narrow, wide = Rate(limit=2, seconds=60), Rate(limit=3, seconds=60)
    assert [table.take([(1, narrow), (9, wide)], NOW) for _ in range(2)] == [0, 0]
    assert table.take([(1, narrow), (9, wide)], NOW) > 0
    assert table.take([(2, narrow), (9, wide)], NOW) == 0
    assert table.take([(3, narrow), (9, wide)], NOW) > 0
    assert table.wait([(3, narrow)], NOW) == 0


def test_a_flood_of_addresses_does_not_forget_the_busiest(memory: int) -> None:
    table, rate = RateTable(memory), Rate(limit=50, seconds=3600)
    for _ in range(50):
        assert table.take([(5, rate)], NOW) == 0
    for other in range(1, 60):
        table.take([(5 + other * 8192, rate)], NOW)  # all in one bucket
    assert table.take([(5, rate)], NOW) > 0


def _take(memory: int, times: int, answers: multiprocessing.SimpleQueue[int]) -> None:
    table, rate = RateTable(memory), Rate(limit=1000, seconds=3600)
    answers.put(sum(table.take([(42, rate)], NOW) == 0 for _ in range(times)))


def test_processes_count_together(memory: int) -> None:
    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()
    workers = [fork.Process(target=_take, args=(memory, 600, answers)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sum(answers.get() for _ in workers) == 1000


def clients(
    *, proxies: tuple[str, ...] = (), shop: tuple[str, ...] = (), key: bytes = bytes(32), bind: str = ""
) -> Clients:
    return Clients(
        trusted_proxies=networks("p", proxies),
        shop_addresses=networks("s", shop),
        key=key,
        caller_key=b"\2" * 32,
        bind=bind,
    )


PROXIES = ("10.0.0.0/8", "fd00::/8")


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("192.0.2.1", "", "192.0.2.1"),
        ("192.0.2.1", "198.51.100.1", "192.0.2.1"),  # a stranger's word counts for nothing
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        (
            "10.0.0.1",
            "6.6.6.6, 198.51.100.1",
            "198.51.100.1",
        ),  # what the client itself wrote stands to the left
        ("10.0.0.1", "6.6.6.6, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "6.6.6.6,,10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "6.6.6.6, unknown", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("10.0.0.1", "[2001:db8::7]:443", "2001:db8::7"),
        ("fd00::1", "2001:db8::7", "2001:db8::7"),
        ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "10.0.0.9, 10.0.0.2", "10.0.0.9"),
        ("10.0.0.1", "6.6.6.6," * 500 + "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "2001:db8::7%eth0", "2001:db8::7"),
        ("10.0.0.1", "\xff\xfe", "10.0.0.1"),
    ],
)
def test_the_client_is_whom_the_last_trusted_proxy_names(peer: str, forwarded: str, expected: str) -> None:
    table = clients(proxies=PROXIES)
    assert table.of(peer, forwarded.encode("latin-1")).address == table.of(expected, b"").address


def test_one_household_is_one_client_and_its_network_another_key() -> None:
    table = clients()
    home, next_door, elsewhere = (
        table.of(address, b"") for address in ("2001:db8:1:2::7", "2001:db8:1:3::7", "2001:db8:2::7")
    )
    assert table.of("2001:db8:1:2:ffff::1", b"") == home
    assert next_door.address != home.address
    assert next_door.prefix == home.prefix != elsewhere.prefix
    first, second = table.of("192.0.2.1", b""), table.of("192.0.2.2", b"")
    assert first.address != second.address
    assert first.prefix == second.prefix
    assert clients(key=b"\1" * 32).of("192.0.2.1", b"").address != first.address


@given(st.text(max_size=30), st.binary(max_size=200))
def test_any_peer_and_any_header_are_some_client(peer: str, forwarded: bytes) -> None:
    assert isinstance(clients(proxies=("0.0.0.0/0", "::/0")).of(peer, forwarded), Client)


def test_only_a_program_of_this_machine_is_local() -> None:
    table, here = clients(proxies=("127.0.0.1",), shop=("192.0.2.0/24",)), b"localhost"
    assert table.of("127.0.0.1", None, here).is_local
    assert table.of("127.0.0.1", None, here).is_shop
    assert not table.of("127.0.0.1", b"127.0.0.1", here).is_local
    assert not table.of("127.0.0.1", b"", here).is_local
    assert not table.of("192.0.2.1", None, here).is_local
    assert table.of("192.0.2.1", None, here).is_shop
    assert not table.of("127.0.0.1", b"198.51.100.1", here).is_shop
    assert not clients().of("127.0.0.1", b"198.51.100.1", here).is_shop


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("localhost", True),
        ("LocalHost:8080", True),
        ("127.0.0.1", True),
        ("127.8.8.8:80", True),
        ("[::1]:8080", True),
        ("Shop.internal:8080", True),  # where the server listens
        ("shop.internal", False),
        ("shop.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example:80", False),
        ("[::1].evil.example", False),
        ("198.51.100.1:443", False),
        ("127.0.0.1" + " " * 100, False),
        ("\xff", False),
    ],
)
def test_what_asks_for_the_shops_name_is_no_program_of_this_machine(host: str, *, is_local: bool) -> None:
    table, asked = clients(proxies=("127.0.0.1",), bind="shop.internal:8080"), host.encode("latin-1")
    for loopback in ("127.0.0.1", "::1"):
        client = table.of(loopback, None, asked)
        assert (client.is_local, client.is_shop, client.is_unnamed) == (is_local, is_local, not is_local)
        old = table.of(loopback, None, asked, is_old=True)  # as nginx asks when it was told nothing
        assert (old.is_local, old.is_unnamed) == (False, True)
    for named in (table.of("127.0.0.1", b"198.51.100.1", asked), table.of("198.51.100.1", None, asked)):
        assert not named.is_local
        assert not named.is_unnamed


def test_who_names_nobody_is_no_program_of_this_machine_and_no_proxy() -> None:
    nameless = clients().of("127.0.0.1", None, b"")
    assert not nameless.is_local
    assert not nameless.is_unnamed


def test_no_header_fills_the_memory() -> None:
    table = clients(proxies=("127.0.0.1",))
    tracemalloc.start()
    try:
        for peer in ("127.0.0.1", "198.51.100.1"):
            for number in range(256):
                header = b"%d," % number * 12_000
                table.of(peer, header, header)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 2 * 1024 * 1024  # of 25 MB that were sent; 256 times 2 KiB and what holds them


def test_a_proxy_that_hides_its_customers_is_one_customer_and_told_of(
    new_node: NewNode, run_intake: Callable[..., tuple[int, str, str]]
) -> None:
    node = new_node().configure(more=LIMITS).enrol(20).start()

    def rules() -> list[str]:
        return [notice["rule"] for notice in node.get("/readyz").json["notices"]]

    def post() -> int:
        return node.post(good_order(), new_key(), Host="shop.example").status

    named = node.get("/keys", Host="shop.example", X_Forwarded_For="198.51.100.1")
    assert (named.status, rules()) == (200, [])
    assert [post() for _ in range(5)] == [202, 202, 202, 429, 429]
    problem(node.get("/metrics", Host="shop.example"), 404, "INTAKE-NOT-FOUND")
    assert node.get("/metrics").status == 200
    assert rules() == TOLD
    assert node.get("/readyz").status == 200
    code, _, said = run_intake("status", "--config", node.config)
    assert code == 3
    assert "PROXY-UNNAMED" in said
    assert "nginx.conf" in said
    day_ago = time.time() - 86_401
    os.utime(node.state / "proxy-unnamed", (day_ago, day_ago))
    assert rules() == []


def test_an_nginx_that_was_told_nothing_is_told_of_by_its_http_1_0(new_node: NewNode) -> None:
    """By default it asks for the address that it passes to: 127.0.0.1."""
    node = new_node().configure().enrol(20).start()
    for header, expected in (
        ("", []),
        ("X-Forwarded-For: \r\n", []),
        (f"Host: 127.0.0.1:{node.port}\r\n", TOLD),
    ):
        with socket.create_connection(("127.0.0.1", node.port), timeout=20) as connection:
            connection.sendall(f"GET /metrics HTTP/1.0\r\n{header}\r\n".encode())
            answer = connection.makefile("rb").read()
        assert answer.split()[1] == b"404"
        assert [notice["rule"] for notice in node.get("/readyz").json["notices"]] == expected


def test_the_nginx_that_is_shipped_says_who_the_customer_is() -> None:
    text = (Path(intake.__file__).parent / "deploy" / "nginx.conf").read_text("utf-8")
    lines = {line.strip() for line in text.splitlines()}
    assert {
        "proxy_set_header X-Forwarded-For $remote_addr;",
        "proxy_set_header Host shop.example;",
        "proxy_http_version 1.1;",
        f"client_body_buffer_size {BODY_LIMIT // 1024}k;",
        f"client_max_body_size {BODY_LIMIT // 1024}k;",
        "access_log off;",
    } <= lines


def test_a_few_networks_do_not_write_all_letters_of_an_hour(memory: int) -> None:
    limits = Limits(LimitsConfig(), RateTable(memory))
    taken = 0
    for network in range(3):
        for last in range(1, 200):
            client = clients().of(f"198.51.{network}.{last}", b"")
            while limits.wait(client, LETTERS, NOW) == 0:
                limits.count(client, LETTERS, NOW)
                taken += 1
    assert taken == 3 * 40
    assert limits.wait(clients().of("203.0.113.1", b""), LETTERS, NOW) == 0


@pytest.mark.parametrize("wrong", ["", "x", "10.0.0.1/8", "300.1.1.1", "*"])
def test_a_setting_that_is_no_network_is_refused(wrong: str) -> None:
    with pytest.raises(IntakeError) as refusal:
        networks("[limits] trusted_proxies", [wrong])
    assert refusal.value.rule == "CONFIG-VALUE"


def test_each_limit_counts_for_itself(memory: int) -> None:
    limits = Limits(
        LimitsConfig(requests_per_minute=30, orders_per_hour=3, wrong_tokens_per_hour=2), RateTable(memory)
    )
    client = clients().of("192.0.2.1", b"")
    limits_of = {REQUESTS: 30, ORDERS: 3, TOKENS: 2, LETTERS: 20}
    for name, most in limits_of.items():
        for _ in range(most):
            assert limits.wait(client, name, NOW) == 0
            limits.count(client, name, NOW)
        assert limits.wait(client, name, NOW) > 0
    assert limits.request(client, NOW) > 0


LIMITS = (
    "[limits]\nrequests_per_minute = 60\norders_per_hour = 3\nwrong_tokens_per_hour = 4\nnetwork_factor = 2\n"
)


def test_who_tries_many_cards_is_stopped_by_address_and_by_network(new_node: NewNode) -> None:
    node = new_node().configure(workers=2, more=LIMITS).enrol().start()

    def order(address: str, key: str = "") -> int:
        return node.post(good_order(), key or new_key(), **{"X-Forwarded-For": address}).status

    key = new_key()
    assert [order("198.51.100.1", key) for _ in range(6)] == [202] * 6  # a retry is no new order
    assert [order("198.51.100.1") for _ in range(2)] == [202] * 2
    refused = node.post(good_order(), new_key(), **{"X-Forwarded-For": "198.51.100.1"})
    problem(refused, 429, "INTAKE-TOO-MANY")
    assert 0 < int(refused.headers["retry-after"]) <= 7200
    # Another address of the same network has its own three, and then the network has had its six.
    assert [order(f"198.51.100.{last}") for last in (2, 2, 2, 3)] == [202, 202, 202, 429]
    assert order("203.0.113.1") == 202
    # Who may not order any more still sees how the orders fared.
    assert node.get("/orders/" + "0" * 32, X_Forwarded_For="198.51.100.1").status == 404
    # The shop's own software on this machine speaks for many.
    assert [node.post(good_order(), new_key()).status for _ in range(10)] == [202] * 10
    assert 'intake_limited_total{limit="orders"} 2.0' in node.get("/metrics").body.decode()


def test_who_guesses_tokens_or_asks_too_often_is_stopped(new_node: NewNode) -> None:
    node = new_node().configure(more=LIMITS).enrol().start()
    accepted = node.post(good_order(), new_key()).json
    path, guesser = f"/orders/{accepted['order_id']}", "198.51.100.9"
    wrong = [
        node.get(path, Authorization=f"Bearer {'A' * 32}", X_Forwarded_For=guesser).status for _ in range(6)
    ]
    assert wrong == [404, 404, 404, 404, 429, 429]
    bearer = f"Bearer {accepted['access_token']}"
    assert node.get(path, Authorization=bearer, X_Forwarded_For=guesser).status == 429
    assert node.get(path, Authorization=bearer, X_Forwarded_For="203.0.113.9").status == 200
    asked = [node.get("/keys", X_Forwarded_For="203.0.113.10").status for _ in range(70)]
    assert 60 <= asked.count(200) <= 65  # a minute may end meanwhile
    assert asked.count(200) + asked.count(429) == 70


def test_nobody_writes_letters_without_end(new_node: NewNode) -> None:
    node = new_node().configure(more=LIMITS + "letters_per_hour = 3\n").enrol().start()

    def ask(number: int, address: str) -> Answer:
        body = json.dumps({"email": f"a{number}@example.org"}).encode()
        headers = {"Content-Type": "application/json", "X-Forwarded-For": address}
        return node.request("POST", "/newsletter", body, headers)

    assert [ask(number, "198.51.100.7").status for number in range(3)] == [202] * 3
    problem(ask(3, "198.51.100.7"), 429, "INTAKE-TOO-MANY")
    enquiry = {"name": "N", "email": "n@example.org", "text": "Hej"}
    headers = {"Content-Type": "application/json", "X-Forwarded-For": "198.51.100.7"}
    answer = node.request("POST", "/enquiries", json.dumps(enquiry).encode(), headers)
    problem(answer, 429, "INTAKE-TOO-MANY")
    # Reading stays free, and so does leaving.
    assert node.get("/newsletter", X_Forwarded_For="198.51.100.7").status == 200
    assert node.request("POST", "/newsletter/unsubscribe?token=x", b"", headers).status == 404
    assert ask(4, "203.0.113.7").status == 202


def test_a_stranger_cannot_speak_for_others(new_node: NewNode) -> None:
    node = new_node().configure(more=LIMITS + 'trusted_proxies = ["192.0.2.1"]\n').enrol().start()
    accepted = node.post(good_order(), new_key()).json
    # Loopback is not trusted here: whoever it claims to speak for, all of these are one client, and not the shop.
    statuses = [
        node.get(f"/orders/{accepted['order_id']}", X_Forwarded_For=f"198.51.100.{last}").status
        for last in range(8)
    ]
    assert statuses == [404] * 4 + [429] * 4
    assert node.get("/metrics", X_Forwarded_For="198.51.100.1").status == 404


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("requests_per_minute = 0", "CONFIG-VALUE"),
        ("requests_per_minute = 1000000", "CONFIG-VALUE"),
        ("orders_per_hour = 0", "CONFIG-VALUE"),
        ("orders_per_hour = 100000", "CONFIG-VALUE"),
        ("network_factor = 0", "CONFIG-VALUE"),
        ('trusted_proxies = ["everyone"]', "CONFIG-VALUE"),
        ("enabled = false", "CONFIG-UNKNOWN"),
    ],
)
def test_no_setting_switches_limits_off(tmp_path: Path, line: str, rule: str) -> None:
    config = tmp_path / "node.toml"
    config.write_text(f"[limits]\n{line}\n")
    with pytest.raises(RuleError) as refusal:
        check_settings(load(config, {"limits": LimitsConfig}, {})["limits"], ())
    assert refusal.value.rule == rule


def test_clients_that_ask_at_once_share_one_count(new_node: NewNode) -> None:
    node = new_node().configure(workers=2, more=LIMITS).enrol().start()
    statuses: list[int] = []

    def ask() -> None:
        statuses.extend(node.get("/keys", X_Forwarded_For="203.0.113.77").status for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    started = time.time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A window that ends in the middle lets in a part of the next one's.
    allowed = 60 if int(started) // 60 == int(time.time()) // 60 else 120
    assert 60 <= statuses.count(200) <= allowed
    assert statuses.count(200) + statuses.count(429) == 120
