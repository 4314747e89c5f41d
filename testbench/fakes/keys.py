"""Makes a service-account key file as Google's console gives out, so that real credentials classes load it.

The key is generated here and belongs to nothing outside the bench. Only the token address differs from a real
file: it names the bench's own token service.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


def write(path: Path, *, email: str, project: str, token_uri: str) -> None:
    """Writes the file with mode 0600; an existing one is replaced (its key is then worth nothing)."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    document = {
        "type": "service_account",
        "project_id": project,
        "private_key_id": secrets.token_hex(20),
        "private_key": pem.decode(),
        "client_email": email,
        "client_id": str(secrets.randbelow(9 * 10**20) + 10**20),
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": token_uri,
        "universe_domain": "googleapis.com",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
        json.dump(document, f, indent=2)
    draft.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m testbench.fakes.keys", description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--email", default="llm-release@demo.iam.gserviceaccount.com")
    parser.add_argument("--project", default="demo")
    parser.add_argument("--token-uri", default="http://10.88.255.1:8421/token")
    args = parser.parse_args()
    write(args.path, email=args.email, project=args.project, token_uri=args.token_uri)


if __name__ == "__main__":
    main()
