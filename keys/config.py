"""Configuration files: TOML in, typed settings out, nothing unknown let through.

Why here: all four commands share one file form and one way to override a value from the environment.
Must not: read the environment or the clock itself, nor hold a secret (a passphrase is named by its file).
"""

from __future__ import annotations

import os
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_origin

import msgspec

from keys.errors import KeysError
from keys.toml_words import in_words

if TYPE_CHECKING:
    from collections.abc import Mapping

SECTIONS = (
    "node",
    "sync",
    "intake",
    "mail",
    "limits",
    "webhooks",
    "keystore",
    "processor",
    "acquirer",
    "charging",
    "exports",
    "operator",
)
_SIZE_LIMIT = 256 * 1024
_NAME_ONE = "name an existing configuration file with --config (README.md shows one)"


class Risk(StrEnum):
    """A danger of this machine that the configuration may name as accepted; ``accept_risk`` lists them."""

    UNENCRYPTED_SWAP = "unencrypted-swap"


class KeystoreConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[keystore]``: where the offline keys are, and optionally the files that hold their passphrases."""

    path: Path
    passphrase_file: Path | None = None
    second_passphrase_file: Path | None = None
    accept_risk: tuple[Risk, ...] = ()


def load(path: Path, wanted: Mapping[str, type], environ: Mapping[str, str]) -> dict[str, Any]:
    """Read ``path`` and return one instance of each ``wanted`` type (a msgspec Struct) by section name.

    ``SECTION_KEY`` in ``environ`` overrides ``key`` of ``[section]``. Values of type ``Path`` are relative to
    the file's directory. A section that is missing counts as empty.
    Raises ``CONFIG-FILE`` (unreadable, not TOML), ``CONFIG-UNKNOWN`` (section or key) or ``CONFIG-VALUE``.
    """
    document = _read(path)
    for section, content in document.items():
        if section not in SECTIONS:
            raise KeysError("CONFIG-UNKNOWN", f"{path} has an unknown section [{section}]", _known(SECTIONS))
        if not isinstance(content, dict):
            raise KeysError("CONFIG-VALUE", f"in {path}, {section} must be a section, not a value")
    base = path.resolve().parent
    return {
        section: _section(path, base, section, dict(document.get(section, {})), into, environ)
        for section, into in wanted.items()
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(_SIZE_LIMIT + 1)
    except OSError as error:
        raise KeysError("CONFIG-FILE", f"cannot read {path}: {error.strerror}", _NAME_ONE) from error
    if len(raw) > _SIZE_LIMIT:
        raise KeysError("CONFIG-FILE", f"{path} is larger than {_SIZE_LIMIT} bytes", _NAME_ONE)
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise KeysError("CONFIG-FILE", f"{path} is not TOML: {error}", "correct the file") from error


def _section(
    path: Path, base: Path, section: str, content: dict[str, Any], into: type, environ: Mapping[str, str]
) -> Any:
    fields = {field.encode_name for field in msgspec.structs.fields(into)}
    for key in content:
        if key not in fields:
            raise KeysError(
                "CONFIG-UNKNOWN", f"{path} has an unknown key {section}.{key}", _known(sorted(fields))
            )

    def path_of(wanted: type, value: object) -> object:
        if wanted is Path and isinstance(value, str) and value and "\0" not in value:
            return Path(os.path.normpath(base / Path(value).expanduser()))
        raise ValueError("a path is wanted")

    # What comes from the environment is text and may be read as a number; what comes from the file is typed.
    overrides = {key: environ[name] for key in fields if (name := f"{section}_{key}".upper()) in environ}
    try:
        for field in msgspec.structs.fields(into):
            if field.encode_name in overrides:
                text: str | list[str] = overrides[field.encode_name]
                if get_origin(field.type) is tuple:
                    text = [part.strip() for part in overrides[field.encode_name].split(",") if part.strip()]
                value = msgspec.convert(text, field.type, strict=False, dec_hook=path_of)
                content[field.encode_name] = str(value) if isinstance(value, Path) else value
        return msgspec.convert(content, into, strict=True, dec_hook=path_of)
    except msgspec.ValidationError as error:
        reason = in_words(error, {"accept_risk": Risk})
        remedy = f"correct it in the file, or {section.upper()}_… in the environment"
        raise KeysError("CONFIG-VALUE", f"in {path}, section [{section}]: {reason}", remedy) from error


def _known(names: tuple[str, ...] | list[str]) -> str:
    return "known are " + ", ".join(names)
