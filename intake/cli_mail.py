"""Reading [mail] for the commands that write to customers.

Why here: newsletter and enquiries read it in one way, and the server does not read it at all.
Must not: read the password; the line to the mail server does when it is needed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

from intake.config import IntakeConfig
from intake.mail.config import MailConfig, checked
from keys.config import load
from transfer.config import NodeConfig


def read_mail(config: Path) -> MailConfig:
    """``[mail]`` of a configuration file, its settings checked against each other."""
    sections = load(config, {"node": NodeConfig, "intake": IntakeConfig, "mail": MailConfig}, os.environ)
    return checked(cast("MailConfig", sections["mail"]))
