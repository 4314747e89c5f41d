"""Who calls, and what they may do: the token service, bearers, and permissions from a file.

A signed JWT is exchanged at /token for the content of the bearer file (a token of the cluster's API server),
read at each request, so that one bearer works for the cluster and for these APIs. Which principal asked is
remembered by the token's hash. Roles, conditions and hierarchies of real IAM are not modelled.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import json
import time
from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from testbench.fakes.google import errors
from testbench.fakes.google.state import State
from testbench.fakes.web import Request, Response, as_json

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LIFETIME_S = 3600
BEARER = "bearer-file"
"""Principal of the bearer file's token while nobody has asked for it at /token."""


class Identity:
    """Principals by token, permissions by principal. Every file is read when it is needed."""

    def __init__(self, bearer: Path, iam: Path | None, accounts: Iterable[Path], state: State) -> None:
        self._bearer = bearer
        self._iam = iam
        self._accounts = tuple(accounts)
        self._state = state

    def token(self, request: Request) -> Response:
        """The OAuth token endpoint; errors in OAuth's own shape."""
        form = request.form()
        if form.get("grant_type") != GRANT:
            return as_json({"error": "unsupported_grant_type", "error_description": f"Want {GRANT}."}, 400)
        try:
            principal = self._signer(form.get("assertion", ""))
        except ValueError as e:
            return as_json({"error": "invalid_grant", "error_description": str(e)}, 400)
        bearer = self._current()
        if not bearer:
            return as_json({"error": "internal_failure", "error_description": "no bearer yet"}, 503)
        with self._state.changing() as held:
            held.tokens[_digest(bearer)] = principal
        return as_json({"access_token": bearer, "expires_in": LIFETIME_S, "token_type": "Bearer"})

    def principal(self, request: Request) -> str:
        """
        Raises:
            ApiError: 401, no bearer, or one that was never given out or has been revoked.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise errors.unauthenticated("Expected OAuth 2 access token.")
        digest, held = _digest(token), self._state.held
        if digest in held.revoked:
            raise errors.unauthenticated("The access token has been revoked.")
        if digest in held.tokens:
            return held.tokens[digest]
        if token == self._current():
            return BEARER
        try:
            return self._signer(token)
        except ValueError as e:
            raise errors.unauthenticated(str(e)) from e

    def revoke(self) -> int:
        """Every token given out so far is refused from now on, the bearer file's too."""
        with self._state.changing() as held:
            refused = {*held.tokens, *held.revoked, _digest(self._current())}
            held.tokens.clear()
            held.revoked[:] = sorted(refused)
        return len(refused)

    def restore(self) -> None:
        """Takes back what `revoke` did."""
        with self._state.changing() as held:
            held.revoked.clear()

    def _current(self) -> str:
        return self._bearer.read_text().strip() if self._bearer.exists() else ""

    def allowed(self, principal: str, permissions: Iterable[str]) -> list[str]:
        """Those of the permissions that the principal has; all of them where no file says otherwise."""
        if self._iam is None or not self._iam.exists():
            return list(permissions)
        granted = json.loads(self._iam.read_text()).get(principal, [])
        return [p for p in permissions if "*" in granted or p in granted]

    def check(self, principal: str, permission: str, key: str) -> None:
        """
        Raises:
            ApiError: 403.
        """
        if permission and not self.allowed(principal, [permission]):
            raise errors.forbidden(permission, key)

    def _signer(self, jwt: str) -> str:
        """The account that signed. The signature is checked where that account's key file is known.

        Raises:
            ValueError: no JWT, or one that does not hold.
        """
        parts = jwt.split(".")
        if len(parts) != 3:
            raise ValueError("Invalid credential: not a JWT.")
        try:
            head, claims = json.loads(_decode(parts[0])), json.loads(_decode(parts[1]))
            signature = _decode(parts[2])
        except (ValueError, binascii.Error) as e:
            raise ValueError("Invalid JWT: not decodable.") from e
        issuer = str(claims.get("iss", ""))
        if head.get("alg") != "RS256" or len(signature) not in (256, 384, 512) or "@" not in issuer:
            raise ValueError("Invalid JWT: not an RS256 assertion of a service account.")
        if float(claims.get("exp", 0)) < time.time():
            raise ValueError("Invalid JWT: expired.")
        key = self._key(issuer)
        if key is not None:
            try:
                key.verify(signature, f"{parts[0]}.{parts[1]}".encode(), padding.PKCS1v15(), hashes.SHA256())
            except InvalidSignature as e:
                raise ValueError("Invalid JWT Signature.") from e
        return issuer

    def _key(self, email: str) -> rsa.RSAPublicKey | None:
        for path in self._accounts:
            text = path.read_text() if path.exists() else "{}"
            if json.loads(text).get("client_email") == email:
                return _public_key(text)
        return None


@functools.lru_cache(maxsize=8)
def _public_key(text: str) -> rsa.RSAPublicKey:
    """Of a key file's text. Kept, because loading one checks it, which takes longer than a whole call."""
    pem = json.loads(text)["private_key"].encode()
    key = serialization.load_pem_private_key(pem, None).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    return key


def _decode(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
