"""Certificates for tests: an authority of their own, and what it signs for this machine."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from serve_app.http.certificate import Certificate

_DAY: Final = timedelta(days=1)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """Signs certificates; `file` is what clients are to trust."""

    def __init__(self, folder: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._folder, self.file = folder, folder / "authority.pem"
        made = self._built("authority", self._key, datetime.now(UTC) + 300 * _DAY)
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        own = made.add_extension(constraints, critical=True).sign(self._key, hashes.SHA256())
        self.file.write_bytes(own.public_bytes(serialization.Encoding.PEM))

    def sign(self, name: str, days: float = 90.0, address: str = "127.0.0.1") -> Certificate:
        """`NAME.crt` and `NAME.key`, for `name` and an address, which end in so many days."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ip_address(address))])
        made = self._built(name, key, datetime.now(UTC) + days * _DAY).add_extension(names, critical=False)
        signed = made.sign(self._key, hashes.SHA256())
        found = Certificate(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        found.chain.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        found.key.touch(mode=0o600)
        found.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return found

    def _built(self, name: str, key: ec.EllipticCurvePrivateKey, end: datetime) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name("authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.now(UTC) - 400 * _DAY)
            .not_valid_after(end)
        )
