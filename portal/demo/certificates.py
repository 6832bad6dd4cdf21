"""A private certificate authority for servers on loopback (the demo's and the tests').

Owns its key only in memory: what is written to disk are the authority's certificate and the servers' pairs. Always: certificates
name `localhost` and 127.0.0.1 unless told otherwise, so that a client verifies them by name and chain like any other.
"""
from __future__ import annotations

import datetime as dt
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LOCAL_NAMES = ("localhost", "127.0.0.1")
LIFETIME = dt.timedelta(days=365)


@dataclass(frozen=True)
class ServerCertificate:
    """A server's pair as PEM text; `write` puts it into two files, the key readable by its owner only."""

    certificate_pem: str
    key_pem: str

    def write(self, directory: Path, name: str = "server") -> tuple[Path, Path]:
        directory.mkdir(parents=True, exist_ok=True)
        certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
        certificate.write_text(self.certificate_pem)
        descriptor = os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(self.key_pem)
        return certificate, key


class Authority:
    """Signs certificates that last a year; `pem` is what a client has to trust."""

    def __init__(self, name: str = "Banjia demo CA") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
                              key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
                              decipher_only=False)
        self._certificate = (self._builder(self._name, self._key.public_key(), LIFETIME)
                             .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                             .add_extension(usage, critical=True)
                             .sign(self._key, hashes.SHA256()))
        self.pem = self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: dt.timedelta) -> x509.CertificateBuilder:
        begin = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
        return (x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key)
                .serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(begin + lifetime)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
                .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False))

    def issue(self, *names: str, lifetime: dt.timedelta = LIFETIME) -> ServerCertificate:
        """A server certificate for host names and addresses; `lifetime` under a day makes one that has already expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        wanted = names or LOCAL_NAMES
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, wanted[0])])
        certificate = (self._builder(subject, key.public_key(), lifetime)
                       .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                       .add_extension(x509.SubjectAlternativeName([_general_name(n) for n in wanted]), critical=False)
                       .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
                       .sign(self._key, hashes.SHA256()))
        return ServerCertificate(
            certificate.public_bytes(serialization.Encoding.PEM).decode(),
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                              serialization.NoEncryption()).decode())

    def write(self, directory: Path) -> Path:
        """Writes the authority's certificate; returns its path."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "ca.pem"
        path.write_text(self.pem)
        return path


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
