"""The certificate that HAProxy shows to clients: its two files, and what HAProxy would refuse about them.

It imports nothing of this project, as serve_app/http/haproxy.py loads it by its file.
"""

import os
import ssl
import stat
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

CHAIN_ENV: Final = "FASTSERVE_TLS_CERT_FILE"
KEY_ENV: Final = "FASTSERVE_TLS_KEY_FILE"
FORBIDDEN_MODE: Final = 0o037  # of the key; as for API keys: Kubernetes lets a Secret's group read it


class Certificate(NamedTuple):
    """PEM files: the server's certificate with those that vouch for it, and the key."""

    chain: Path
    key: Path


def certificate_in(environ: Mapping[str, str]) -> Certificate | None:
    """The files that variables name, if any. Raises ValueError for one without the other."""
    named = {name: environ.get(name) or "" for name in (CHAIN_ENV, KEY_ENV)}
    if not any(named.values()):
        return None
    for name, text in named.items():
        if not text:
            raise ValueError(f"{name} is missing: TLS needs {CHAIN_ENV} and {KEY_ENV}.")
        if not Path(text).is_absolute():
            raise ValueError(f"{name} is '{text}': write the absolute path, which is the same on every node.")
    return Certificate(Path(named[CHAIN_ENV]), Path(named[KEY_ENV]))


def require_usable(certificate: Certificate) -> None:
    """Raises ValueError, which says what to do, for files that cannot be read or do not belong together."""
    for path in certificate:
        try:
            path.open("rb").close()
        except OSError as error:
            raise ValueError(
                f"'{path}' cannot be read ({error.strerror}): name a PEM file that is on this machine."
            ) from error
    mode = stat.S_IMODE(certificate.key.stat().st_mode)
    if mode & FORBIDDEN_MODE:
        raise ValueError(
            f"Key file '{certificate.key}' has mode {mode:o}: only its owner may write and only its group "
            "may read it (chmod 600)."
        )
    try:
        # An empty password: it would be asked for on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*certificate, password="")
    except (ssl.SSLError, ValueError) as error:
        raise ValueError(
            f"Certificate '{certificate.chain}' and key '{certificate.key}' are not a pair "
            f"({getattr(error, 'reason', None) or error}): give PEM files, the server's own certificate "
            "first, and its key without a password."
        ) from error


def linked(certificate: Certificate, folder: Path) -> Path:
    """The name under which HAProxy finds both: it looks for the key beside the chain, with `.key` behind.

    Links, so that no copy of the key is made and a renewed file is the one that is read.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    name = folder / "door.pem"
    for path, target in ((name, certificate.chain), (name.with_name("door.pem.key"), certificate.key)):
        new = path.with_name(f"{path.name}.{os.getpid()}")
        new.symlink_to(target)
        new.replace(path)
    return name


def end_of(certificate: Certificate) -> datetime:
    """When the server's own certificate ends, of a chain that is usable."""
    from cryptography import x509  # HAProxy's launcher needs no dates, and must not wait for it

    return x509.load_pem_x509_certificate(certificate.chain.read_bytes()).not_valid_after_utc
