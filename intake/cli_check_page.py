"""`intake check-page`: fetch the live pages as a browser would, and say what differs from what was shipped.

Why here: it is run from another machine than the intake's, by a timer; its exit code is what the timer reads.
Must not: be run with the configuration or the state of the intake: it knows the address and nothing else.
"""

from __future__ import annotations

import http.client
import urllib.parse
from collections.abc import Callable

import click

from intake.check_page import Fetched, changes, identities_of
from intake.errors import IntakeError
from intake.page.inventory import inventory
from keys import console
from keys.console import ExitCode, say
from keys.public.fingerprint import fingerprint as fingerprint_of

_LIMIT = 4 * 1024 * 1024
_SECONDS = 30
_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0 Safari/537.36"
_EXAMPLES = """
\b
Examples:
  intake check-page https://shop.example
  intake check-page https://shop.example --fingerprint "1a2b-…" --json
\b
Run it from another machine than the shop's, at least once a week (PCI DSS 11.6.1), with the version of this software
that the shop runs. With --fingerprint it also compares the offline identity that the checkout tells browsers to trust:
whoever could exchange that could read the orders of new customers. Exit code 0: as shipped; 3: something differs.
"""


def register(commands: click.Group) -> None:
    """Add this verb to ``intake``."""
    commands.add_command(_check_page)


@click.command("check-page", epilog=_EXAMPLES)
@click.argument("url")
@click.option("--fingerprint", metavar="F", help="The offline identity's, as its operator reads it out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
def _check_page(*, url: str, fingerprint: str | None, as_json: bool) -> ExitCode:
    """Fetch the pages at URL and report every change of scripts or headers."""
    fetch = _fetcher(url)
    expected = inventory()
    found = list(changes(expected, fetch, spoken=fingerprint))
    trusted = [fingerprint_of(identity) for identity in identities_of(fetch)]
    if as_json:
        console.print_json(
            {
                "url": url,
                "pages": len(expected.pages),
                "scripts": len(expected.scripts),
                "offline_identities": trusted,
                "changes": [
                    {"page": one.page, "what": one.what, "expected": one.expected, "found": one.found}
                    for one in found
                ],
            }
        )
    elif found:
        rows = [(one.page, one.what, one.expected, one.found) for one in found]
        console.table("Changes", ("page", "what", "expected", "found"), rows)
        say(
            "Somebody changed what customers' browsers get, or another version is installed here. Find out which."
        )
    else:
        say(f"{len(expected.pages)} pages and {len(expected.scripts)} scripts are as they were shipped.")
        if fingerprint is None:
            say(f"Offline identity that the checkout trusts (compare it): {', '.join(trusted) or 'none'}")
    return ExitCode.NEEDS_PERSON if found else ExitCode.DONE


def _fetcher(url: str) -> Callable[[str, str], Fetched]:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
        raise IntakeError("USAGE-URL", f"{url} is not the address of a shop", "give https://HOST")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    host, port = parts.hostname, parts.port

    def fetch(path: str, cookie: str) -> Fetched:
        # A connection each: what a server sends to somebody who only asks once is what customers get.
        connection = kind(host, port, timeout=_SECONDS)
        headers = {"Accept": "text/html,*/*;q=0.8", "User-Agent": _AGENT, "Accept-Encoding": "identity"}
        headers |= {"Cookie": cookie} if cookie else {}
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            content = response.read(_LIMIT + 1)
        except (OSError, http.client.HTTPException) as error:
            raise IntakeError("PAGE-UNREACHABLE", f"{url} does not answer: {error}") from error
        finally:
            connection.close()
        named: dict[str, str] = {}
        for name, value in response.getheaders():
            key = name.lower()
            named[key] = f"{named[key]}, {value}" if key in named else value
        return Fetched(status=response.status, headers=named, content=content[:_LIMIT])

    return fetch
