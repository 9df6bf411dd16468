"""The file with Ray's token: Ray itself would let every user of the machine read what it makes."""

import secrets
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Final

from deployments.keys.file import FORBIDDEN_MODE, write_secret

PRIVATE: Final = 0o600


def token_file(environ: Mapping[str, str], user_home: Path) -> Path:
    """Where Ray looks for its token, where RAY_AUTH_TOKEN does not hold it."""
    return Path(environ.get("RAY_AUTH_TOKEN_PATH") or user_home / ".ray" / "auth_token")


def use_token(environ: MutableMapping[str, str], user_home: Path) -> None:
    """Before Ray is imported: have it show the token where there is one and nobody has said whether to."""
    has_token = "RAY_AUTH_TOKEN" in environ or token_file(environ, user_home).is_file()
    if has_token and not environ.get("RAY_AUTH_MODE"):
        environ["RAY_AUTH_MODE"] = "token"


def ensure_token(environ: Mapping[str, str], user_home: Path) -> None:
    """Make the token where Ray asks for one and there is none; one that others may read is theirs no more."""
    if environ.get("RAY_AUTH_MODE", "").lower() != "token" or "RAY_AUTH_TOKEN" in environ:
        return
    file = token_file(environ, user_home)
    if not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_secret(file, secrets.token_hex(32))
    elif file.stat().st_mode & FORBIDDEN_MODE:
        file.chmod(PRIVATE)
