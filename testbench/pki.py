"""Keys and certificates of the bench: one CA for the cluster, one for the API aggregation, a kubeconfig each.

Made once per bench under .bench/pki; nothing here is meant to be safe against the machine's own root.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from testbench import config

DAYS = 3650
SERVERS = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")


def ensure() -> None:
    """Writes what is missing; a certificate authority that exists is kept."""
    config.PKI.mkdir(parents=True, exist_ok=True)
    for name, subject in (("ca", "bench-ca"), ("front", "bench-front-proxy-ca")):
        if not (config.PKI / f"{name}.crt").exists():
            _authority(name, subject)
    if not (config.PKI / "sa.key").exists():
        key = _key()
        _write_key("sa", key)
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (config.PKI / "sa.pub").write_bytes(public)
    addresses = ("127.0.0.1", config.SERVICES, "10.96.0.1")
    certificate("apiserver", "kube-apiserver", names=SERVERS, addresses=addresses)
    certificate("admin", "admin", organization="system:masters")
    certificate("kcm", "system:kube-controller-manager")
    certificate("scheduler", "system:kube-scheduler")
    certificate("proxy", "system:kube-proxy")
    certificate("front-client", "front-proxy-client", authority="front")
    for user in ("admin", "kcm", "scheduler", "proxy"):
        kubeconfig(config.PKI / f"{user}.conf", user)
    kubeconfig(config.KUBECONFIG, "admin")


def certificate(
    name: str,
    common_name: str,
    *,
    organization: str = "",
    names: Sequence[str] = (),
    addresses: Sequence[str] = (),
    authority: str = "ca",
) -> None:
    """A certificate for both ends of TLS, signed by `authority`, unless it exists."""
    path = config.PKI / f"{name}.crt"
    if path.exists():
        return
    key = _key()
    _write_key(name, key)
    issuer = x509.load_pem_x509_certificate((config.PKI / f"{authority}.crt").read_bytes())
    issuer_key = serialization.load_pem_private_key((config.PKI / f"{authority}.key").read_bytes(), None)
    assert isinstance(issuer_key, rsa.RSAPrivateKey)
    alternatives = [x509.DNSName(n) for n in (names or (name,))]
    ips = [x509.IPAddress(ipaddress.ip_address(a)) for a in addresses]
    built = (
        _builder(_name(common_name, organization), issuer.subject, key)
        .add_extension(x509.SubjectAlternativeName([*alternatives, *ips]), critical=False)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .sign(issuer_key, hashes.SHA256())
    )
    path.write_bytes(built.public_bytes(serialization.Encoding.PEM))


def kubeconfig(path: Path, user: str) -> None:
    """A kubeconfig (JSON is YAML) that signs in with a certificate of ours."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "bench",
                "cluster": {"server": config.API, "certificate-authority": str(config.PKI / "ca.crt")},
            }
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate": str(config.PKI / f"{user}.crt"),
                    "client-key": str(config.PKI / f"{user}.key"),
                },
            }
        ],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": user}}],
        "current-context": "bench",
    }
    path.write_text(json.dumps(document, indent=1))
    path.chmod(0o600)


def _authority(name: str, subject: str) -> None:
    key = _key()
    _write_key(name, key)
    me = _name(subject, "")
    built = (
        _builder(me, me, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (config.PKI / f"{name}.crt").write_bytes(built.public_bytes(serialization.Encoding.PEM))


def _builder(subject: x509.Name, issuer: x509.Name, key: rsa.RSAPrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
    )


def _name(common_name: str, organization: str) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(parts)


def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _write_key(name: str, key: rsa.RSAPrivateKey) -> None:
    path = config.PKI / f"{name}.key"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    path.chmod(0o600)
