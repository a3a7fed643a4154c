"""Swap in clear is refused: /proc/swaps and /sys are followed down to dm-crypt or to memory, or not believed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.errors import KeysError
from keys.private import swap
from keys.private.passphrase import read_passphrase
from keys.private.swap import BlockDevice, OnSwap, SwapArea, check_swap, parse_swaps, unencrypted_swaps
from tests.source import ROOT

HEADER = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
NAMES = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=30)


def escaped(name: str) -> str:
    return name.replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011").replace("\n", "\\012")


def line(name: str, kind: str) -> str:
    return f"{escaped(name)}\t\t\t{kind}\t1000\t\t0\t\t-2\n"


@given(
    st.lists(
        st.tuples(NAMES.filter(lambda name: not any(c.isspace() and c != " " for c in name)), st.booleans())
    )
)
def test_every_area_is_found_by_its_own_name(areas: list[tuple[str, bool]]) -> None:
    text = HEADER + "".join(line(f"/{name}", "file" if is_file else "partition") for name, is_file in areas)
    assert parse_swaps(text) == [SwapArea(path=f"/{name}", is_file=is_file) for name, is_file in areas]


@given(st.text(max_size=300))
def test_anything_else_is_refused_in_one_way(text: str) -> None:
    try:
        parse_swaps(text)
    except ValueError:
        return
    assert text.startswith("Filename") or text.lstrip().startswith("Filename")


class Machine:
    """A /proc and a /sys of our own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lines: list[str] = []
        (root / "dev/mapper").mkdir(parents=True)
        (root / "proc").mkdir()
        (root / "sys/dev/block").mkdir(parents=True)
        self.write()

    def device(
        self, name: str, *, uuid: str | None = None, slaves: tuple[str, ...] = (), **files: str
    ) -> None:
        entry = self.root / "sys/class/block" / name
        (entry / "slaves").mkdir(parents=True)
        (self.root / "dev" / name).touch()
        if uuid is not None:
            (entry / "dm").mkdir()
            (entry / "dm/uuid").write_text(uuid + "\n")
        for slave in slaves:
            (entry / "slaves" / slave).symlink_to(self.root / "sys/class/block" / slave)
        for file, content in files.items():
            place = entry / file.replace("__", "/")
            place.parent.mkdir(exist_ok=True)
            place.write_text(content + "\n")

    def partition(self, disk: str, name: str) -> None:
        self.device(disk)
        real = self.root / "sys/class/block" / disk / name
        real.mkdir()
        (real / "partition").write_text("1\n")
        (self.root / "sys/class/block" / name).symlink_to(real)
        (self.root / "dev" / name).touch()

    def swap_on(self, path: str, kind: str = "partition") -> None:
        self.lines.append(line(path, kind))
        self.write()

    def write(self) -> None:
        (self.root / "proc/swaps").write_text(HEADER + "".join(self.lines))

    def found(self) -> list[str]:
        return unencrypted_swaps(self.root)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "root")


def test_no_swap_is_no_danger(machine: Machine) -> None:
    assert machine.found() == []
    (machine.root / "proc/swaps").unlink()  # a kernel that has none
    assert machine.found() == []


def test_a_plain_partition_is_named(machine: Machine) -> None:
    machine.partition("sda", "sda2")
    machine.swap_on("/dev/sda2")
    assert machine.found() == ["/dev/sda2"]


def test_dm_crypt_protects_also_below_lvm_and_by_its_mapper_name(machine: Machine) -> None:
    machine.partition("sda", "sda2")
    machine.device("dm-0", uuid="CRYPT-LUKS2-abc-crypt", slaves=("sda2",))
    machine.device("dm-1", uuid="LVM-abc", slaves=("dm-0",))
    (machine.root / "dev/mapper/vg-swap").symlink_to("../dm-1")
    machine.swap_on("/dev/dm-0")
    machine.swap_on("/dev/mapper/vg-swap")
    assert machine.found() == []


def test_one_plain_leg_spoils_a_mirror(machine: Machine) -> None:
    machine.partition("sda", "sda2")
    machine.device("dm-0", uuid="CRYPT-LUKS2-abc-crypt", slaves=("sda2",))
    machine.device("md0", slaves=("dm-0", "sda2"))
    machine.device("dm-1", uuid="LVM-abc", slaves=("sda2",))
    machine.swap_on("/dev/md0")
    machine.swap_on("/dev/dm-1")
    assert machine.found() == ["/dev/md0", "/dev/dm-1"]


def test_zram_stays_in_memory_unless_it_writes_back(machine: Machine) -> None:
    machine.device("zram0", backing_dev="none")
    machine.device("zram1")
    machine.partition("sda", "sda3")
    machine.device("zram2", backing_dev="/dev/sda3")
    for number in range(3):
        machine.swap_on(f"/dev/zram{number}")
    assert machine.found() == ["/dev/zram2"]


def test_a_swap_file_is_as_safe_as_the_disk_below_it(machine: Machine) -> None:
    file = machine.root / "swap file"
    file.touch()
    machine.swap_on("/swap file", "file")
    assert machine.found() == ["/swap file"]  # its device is not known here
    number = file.stat().st_dev
    link = machine.root / f"sys/dev/block/{os.major(number)}:{os.minor(number)}"
    machine.device("sda")
    machine.device("dm-3", uuid="CRYPT-PLAIN-swap", slaves=("sda",))
    link.symlink_to(machine.root / "sys/class/block/dm-3")
    assert machine.found() == []
    link.unlink()
    link.symlink_to(machine.root / "sys/class/block/sda")
    assert machine.found() == ["/swap file"]


def test_what_cannot_be_followed_is_not_believed(machine: Machine) -> None:
    machine.device("md1", slaves=("md1",))  # stands on itself
    for name in ("/dev/md1", "/dev/none", "/gone (deleted)"):
        machine.swap_on(name, "file" if "gone" in name else "partition")
    assert machine.found() == ["/dev/md1", "/dev/none", "/gone (deleted)"]
    (machine.root / "proc/swaps").write_text("nonsense\n")
    assert machine.found() == ["/proc/swaps cannot be read"]


def test_refusal_names_the_swap_and_the_ways_out(machine: Machine) -> None:
    machine.swap_on("/dev/sda2")
    with pytest.raises(KeysError) as refusal:
        check_swap(root=machine.root)
    assert refusal.value.rule == "SWAP-NOT-ENCRYPTED"
    assert "/dev/sda2" in refusal.value.message
    assert "swapoff -a" in refusal.value.remedy
    assert 'accept_risk = ["unencrypted-swap"]' in refusal.value.remedy
    for accepted in (OnSwap.ACCEPT, OnSwap.REHEARSAL):
        assert check_swap(accepted, machine.root) == "SWAP NOT ENCRYPTED: /dev/sda2"


def test_no_passphrase_is_read_where_swap_is_in_clear(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.swap_on("/dev/sda2")
    monkeypatch.setattr(swap.check_swap, "__defaults__", (OnSwap.REFUSE, machine.root))
    with pytest.raises(KeysError) as refusal:
        read_passphrase(file=tmp_path / "never-opened")
    assert refusal.value.rule == "SWAP-NOT-ENCRYPTED"


@given(st.recursive(st.booleans(), lambda below: st.lists(below, min_size=1, max_size=3), max_leaves=12))
def test_a_device_is_as_safe_as_its_least_safe_leg(tree: object) -> None:
    def built(node: object) -> tuple[BlockDevice, bool]:
        if isinstance(node, bool):
            return BlockDevice(name="x", dm_uuid="CRYPT-x" if node else None), node
        assert isinstance(node, list)
        below = [built(part) for part in node]
        return BlockDevice(name="x", below=tuple(device for device, _ in below)), all(
            safe for _, safe in below
        )

    device, safe = built(tree)
    assert device.protected is safe


def test_risk_that_the_configuration_names_is_accepted_by_the_whole_process(machine: Machine) -> None:
    machine.swap_on("/dev/sda2")
    script = (
        "import sys, pathlib\n"
        "from keys.private.swap import OnSwap, accept_unencrypted_swap, check_swap\n"
        "accept_unencrypted_swap()\n"
        "print(check_swap(OnSwap.REFUSE, pathlib.Path(sys.argv[1])))\n"
    )
    command = [sys.executable, "-c", script, str(machine.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "SWAP NOT ENCRYPTED: /dev/sda2\n"
