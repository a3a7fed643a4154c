"""Order documents for the tests of this room."""

from __future__ import annotations

import copy
import secrets
from typing import Any

from intake.catalogue import SHIPPED, load_catalogue

CATALOGUE = load_catalogue(SHIPPED)
YEAR, MONTH = 2026, 11
PAN = "4242424242424242"
CVV = "737"

_GOOD: dict[str, Any] = {
    "items": [{"sku": "LP-0001", "quantity": 1}, {"sku": "CD-0101", "quantity": 2}],
    "total": {"amount": 5097, "currency": "EUR"},
    "customer": {"name": "Zoë Müller", "email": "zoe.mueller@example.com"},
    "delivery": {
        "lines": ["Hauptstraße 5"],
        "city": "Köln",
        "region": "",
        "postcode": "50667",
        "country": "DE",
    },
    "card": {"number": PAN, "expiry_month": 12, "expiry_year": 2035, "security_code": CVV},
}


def good_order() -> dict[str, Any]:
    """A fresh copy of an order that is right in every field."""
    return copy.deepcopy(_GOOD)


def new_key() -> str:
    """A fresh Idempotency-Key."""
    return secrets.token_urlsafe(24)
