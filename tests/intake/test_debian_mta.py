"""The newsletter through a mail server as shops have them: Debian's Exim, delivering into mailboxes on this machine."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest

from intake.newsletter.place import open_subscribers
from tests.intake.mail_server import MailServer
from tests.intake.test_newsletter_sending import SHOP, URL, Shop

pytestmark = pytest.mark.needs_tool("exim4")

EXIM = """
primary_hostname = mail.shop.example
spool_directory = {place}/spool
log_file_path = {place}/spool/%slog
pid_file_path = {place}/spool/pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
deliver_drop_privilege = true
keep_environment =
smtputf8_advertise_hosts = *
acl_smtp_rcpt = accept_ours

begin acl
accept_ours:
  accept domains = example.org
         local_parts = lsearch;{place}/users
  deny message = no such mailbox

begin routers
ours:
  driver = accept
  transport = mailbox

begin transports
mailbox:
  driver = appendfile
  directory = {place}/mail/${{lookup{{$local_part}}lsearch{{{place}/users}}}}
  maildir_format
  create_directory
  user = {user}
"""


@pytest.fixture
def exim(tool: Callable[[str], Path]) -> Iterator[tuple[int, Path]]:
    """Its port, and where the mailboxes are."""
    user = pwd.getpwnam("Debian-exim")
    place = Path("/var/tmp") / f"exim-{os.getpid()}"  # pytest's own places are closed to its user
    for folder in (place, place / "spool", place / "mail"):
        folder.mkdir(mode=0o755)
        os.chown(folder, user.pw_uid, user.pw_gid)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (place / "users").write_text("".join(f"reader{number}: reader{number}\n" for number in range(3)))
    config = place / "exim.conf"
    config.write_text(EXIM.format(place=place, port=port, user=user.pw_name))
    os.chown(place, 0, 0)
    daemon = subprocess.Popen([tool("exim4"), "-bdf", "-C", config], start_new_session=True)
    for _ in range(400):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            assert daemon.poll() is None, "Exim did not start"
            time.sleep(0.05)
    yield port, place / "mail"
    daemon.terminate()
    daemon.wait(20)
    shutil.rmtree(place)


def test_an_issue_comes_into_the_mailboxes_once_each(
    exim: tuple[int, Path], tmp_path: Path, run_intake: Callable[..., tuple[int, str, str]]
) -> None:
    port, mailboxes = exim
    subscribers = open_subscribers(tmp_path / "state", random=os.urandom)
    shop = Shop(tmp_path, MailServer(), subscribers).add(4)  # the fourth has no mailbox there
    shop.config.write_text(
        '[node]\nnode = "shop-t"\nstate = "state"\n'
        f'[mail]\nsender = "news@shop.example"\nshop_url = "{URL}"\nport = {port}\n'
    )
    (tmp_path / "issue.toml").write_text(
        'issue = "1"\nsubject = "Ärende"\ntext = "Hej då\\n.\\nslut"\nrecords = ["LP-0001"]\n'
    )
    arguments = ("newsletter", "send", tmp_path / "issue.toml", "--config", shop.config)
    code, out, _ = run_intake(*arguments)
    assert code == 3
    assert "3 sent, 1 refused by the mail server" in out
    end = time.monotonic() + 20
    while len(list(mailboxes.glob("*/new/*"))) < 3 and time.monotonic() < end:
        time.sleep(0.05)
    assert run_intake(*arguments)[0] == 5
    came = sorted(mailboxes.glob("*/new/*"))
    assert [path.parts[-3] for path in came] == ["reader0", "reader1", "reader2"]
    for path in came:
        raw = path.read_bytes()
        address = f"{path.parts[-3]}@example.org"
        lines = raw.partition(b"\n\n")[0].decode("ascii").split("\n")
        assert f"List-Unsubscribe: <{shop.link(address)}>" in lines
        assert "List-Unsubscribe-Post: List-Unsubscribe=One-Click" in lines
        message = message_from_bytes(raw, policy=default)
        assert (message["To"], message["Subject"]) == (address, "Ärende")
        assert message["From"] == f"{SHOP} <news@shop.example>"
        assert message.get_content().startswith("Hej då\n.\nslut\n")
    subscribers.file.close()
