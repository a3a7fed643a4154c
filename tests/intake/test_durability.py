"""What an answer promises survives: kills, lost registers, full disks, running out of keys, floods."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import resource
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keys.public.seal import key_id
from tests.intake.answers import problem, stored
from tests.intake.node import FAR, Answer, Node
from tests.intake.orders import good_order, new_key
from tests.intake.test_sealed_orders import close_current
from transfer.spool import Spool
from transfer.wire.header import decode_header

NewNode = Callable[[], Node]


def workers_of(node: Node) -> list[int]:
    assert node.process is not None
    pid = node.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("lose_register", [False, True])
def test_a_kill_right_after_an_answer_loses_no_order(new_node: NewNode, *, lose_register: bool) -> None:
    node = new_node().configure(workers=2).enrol().start()
    answered: list[tuple[str, Answer]] = []
    enough = threading.Event()

    def client() -> None:
        # http.client has many words for a server that dies.
        with contextlib.suppress(OSError, http.client.HTTPException):
            while True:
                key = new_key()
                answered.append((key, node.post(good_order(), key)))
                if len(answered) > 60:
                    enough.set()

    threads = [threading.Thread(target=client) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert enough.wait(20)
    node.stop(signal.SIGKILL)
    for thread in threads:
        thread.join()
    taken = stored(node)
    assert {answer.status for _, answer in answered} == {202}
    assert {answer.json["order_id"] for _, answer in answered} <= taken.keys()
    if lose_register:
        for path in node.state.glob("register.db*"):
            path.unlink()
    node.start()
    for key, answer in answered[-10:]:
        again = node.post(good_order(), key)
        assert (again.status, again.body) == (202, answer.body)
    assert stored(node).keys() == taken.keys()


def test_running_out_of_keys_is_said_and_never_falls_back(new_node: NewNode) -> None:
    node = new_node().configure().enrol(1).start()
    key = new_key()
    first = node.post(good_order(), key)
    close_current(node)
    refused = node.post(good_order(), new_key())
    problem(refused, 503, "INTAKE-KEYS-OUT")
    assert int(refused.headers["retry-after"]) > 0
    problem(node.get("/keys"), 503, "INTAKE-KEYS-OUT")
    problem(node.get("/readyz"), 503, "INTAKE-NOT-READY")
    # What stands is looked up before any key.
    again = node.post(good_order(), key)
    assert (again.status, again.body) == (202, first.body)
    assert len(stored(node)) == 1
    # A return brings keys; no restart is needed.
    node.new_roll(2, first=2)
    assert node.post(good_order(), new_key()).status == 202
    assert node.get("/readyz").status == 200


def test_nothing_is_sealed_to_a_key_after_its_seal_until(new_node: NewNode) -> None:
    node = new_node().configure().enrol(2, seal_until=int(time.time()) + 3).start()
    assert node.post(good_order(), new_key()).status == 202
    time.sleep(3.1)
    problem(node.post(good_order(), new_key()), 503, "INTAKE-KEYS-OUT")
    node.new_roll(2, first=2, seal_until=FAR)
    assert node.post(good_order(), new_key()).status == 202


def test_a_full_partition_moves_on_to_the_next_key_in_order(new_node: NewNode) -> None:
    node = new_node().configure(max_orders=3).enrol(3).start()
    for _ in range(9):
        assert node.post(good_order(), new_key()).status == 202
    problem(node.post(good_order(), new_key()), 503, "INTAKE-KEYS-OUT")
    used = [decode_header(envelope[:92]).batch_key_id for envelope in stored(node).values()]
    assert sorted(used.count(key) for key in set(used)) == [3, 3, 3]


def test_a_node_without_a_roll_takes_nothing(new_node: NewNode) -> None:
    node = new_node().configure().start()
    problem(node.post(good_order(), new_key()), 503, "INTAKE-KEYS-OUT")
    assert "intake trust" in problem(node.get("/readyz"), 503, "INTAKE-NOT-READY")["detail"]
    assert node.get("/livez").status == 200
    node.enrol()
    assert node.post(good_order(), new_key()).status == 202
    assert node.get("/readyz").status == 200


def test_a_roll_that_is_not_signed_is_not_used(new_node: NewNode) -> None:
    node = new_node().configure().enrol().start()
    assert node.post(good_order(), new_key()).status == 202
    stranger = new_node().configure().enrol()
    (node.state / "keyroll.json").write_bytes(stranger.offline.roll(5))
    # The roll in memory is good for its own time; a new process has none.
    assert node.post(good_order(), new_key()).status == 202
    node.stop()
    node.start()
    problem(node.post(good_order(), new_key()), 503, "INTAKE-KEYS-OUT")
    assert "ROLL-ENTRY" in problem(node.get("/readyz"), 503, "INTAKE-NOT-READY")["detail"]


def test_a_disk_that_takes_nothing_is_never_answered_202(new_node: NewNode) -> None:
    node = new_node().configure().enrol().start()
    key = new_key()
    assert node.post(good_order(), new_key()).status == 202
    workers = workers_of(node)
    for pid in workers:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    refused = node.post(good_order(), key)
    for pid in workers:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert refused.status == 503
    assert len(stored(node)) == 1
    assert node.post(good_order(), key).status == 202
    assert len(stored(node)) == 2


@contextlib.contextmanager
def commits_held_up(node: Node) -> Iterator[None]:
    """No worker can commit meanwhile: somebody else has its turn to write."""
    with (node.state / "register.lock").open("rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def test_a_flood_is_answered_503_and_nothing_is_half_written(new_node: NewNode) -> None:
    node = new_node().configure().enrol().start()
    assert node.post(good_order(), new_key()).status == 202
    body = json.dumps(good_order()).encode()
    waiting = []
    with commits_held_up(node):
        for _ in range(1150):
            head = (
                f"POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                f"Idempotency-Key: {new_key()}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            connection = socket.create_connection(("127.0.0.1", node.port), timeout=30)
            connection.sendall(head.encode() + body)
            waiting.append(connection)
        # Those above the limit are answered at once, while the others still wait.
        poll = select.poll()
        for connection in waiting:
            poll.register(connection, select.POLLIN)
        assert poll.poll(20_000)
        assert node.get("/livez").status == 200
        refused = {number for number, _ in poll.poll(1000)}
        early = [connection.recv(65536) for connection in waiting if connection.fileno() in refused]
        assert all(answer.startswith(b"HTTP/1.1 503") and b"INTAKE-BUSY" in answer for answer in early)
        assert all(b"retry-after: 2" in answer for answer in early)
    answers = early + [connection.recv(65536) for connection in waiting if connection.fileno() not in refused]
    for connection in waiting:
        connection.close()
    taken = sum(answer.startswith(b"HTTP/1.1 202") for answer in answers)
    busy = sum(answer.startswith(b"HTTP/1.1 503") for answer in answers)
    assert taken == 1024
    assert taken + busy == len(waiting)
    assert len(stored(node)) == taken + 1


def test_workers_share_the_spool_without_taking_an_order_twice(new_node: NewNode) -> None:
    node = new_node().configure(workers=2).enrol().start()
    keys = [new_key() for _ in range(25)]
    results: list[int] = []

    def client() -> None:
        results.extend(node.post(good_order(), key).status for key in keys)

    threads = [threading.Thread(target=client) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [202] * 200
    assert len(stored(node)) == 25


def test_a_cut_gets_every_answered_order_and_later_ones_go_elsewhere(new_node: NewNode) -> None:
    node = new_node().configure(workers=2).enrol(4).start()
    spool = Spool(node.state / "spool")
    answered: list[str] = []
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            answer = node.post(good_order(), new_key())
            assert answer.status == 202
            answered.append(answer.json["order_id"])

    threads = [threading.Thread(target=client) for _ in range(6)]
    for thread in threads:
        thread.start()
    cut: list[Path] = []
    for _ in range(2):
        time.sleep(0.4)
        batch_key_id = bytes.fromhex(_current(node))
        spool.close(batch_key_id)
        with spool.exclusive(batch_key_id):
            cut += spool.groups(batch_key_id)
        listed = set(spool.groups(batch_key_id))
        time.sleep(0.2)
        assert set(spool.groups(batch_key_id)) == listed, "a group appeared after the cut"
    stop.set()
    for thread in threads:
        thread.join()
    assert cut
    assert set(answered) <= stored(node).keys()


def _current(node: Node) -> str:
    return key_id(bytes.fromhex(node.get("/keys").json["batch_key"]["public_key"])).hex()
