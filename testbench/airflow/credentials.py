"""Secrets and passwords of the bench's Airflow: generated once, readable by root alone, never printed."""

from __future__ import annotations

import base64
import json
import os
import secrets as random
from dataclasses import asdict
from pathlib import Path

from testbench.airflow.settings import USERS, Paths, Secrets


def ensure(paths: Paths) -> Secrets:
    """Reads the secrets, or makes them and the users' passwords where there are none yet."""
    paths.base.mkdir(parents=True, exist_ok=True)
    if not paths.secrets.exists():
        _write(paths.secrets, asdict(_generate()))
    if not paths.passwords.exists():
        _write(paths.passwords, {user: random.token_urlsafe(12) for user in USERS})
    return Secrets(**json.loads(paths.secrets.read_text()))


def password(paths: Paths, user: str) -> str:
    """Password of one of the bench's users.

    Raises:
        FileNotFoundError: the bench was never started here.
    """
    return str(json.loads(paths.passwords.read_text())[user])


def _generate() -> Secrets:
    return Secrets(
        jwt=random.token_hex(64),  # HS512 wants 64 bytes
        session=random.token_hex(32),
        fernet=base64.urlsafe_b64encode(random.token_bytes(32)).decode(),
        database=random.token_urlsafe(24),
    )


def _write(path: Path, document: dict[str, str]) -> None:
    """Whole or not at all: a crash here must not leave a half-written file that the next start trusts."""
    draft = path.with_suffix(".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(document, file, indent=1)
    draft.replace(path)
