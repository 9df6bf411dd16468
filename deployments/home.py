"""Where FastServe keeps state and weights: FASTSERVE_HOME, by default ~/.fastserve."""

import os
from pathlib import Path
from typing import Final

KEY_FILE_ENV: Final = "FASTSERVE_KEY_FILE"


def home() -> Path:
    """The state directory, made with mode 0700 if absent."""
    path = Path(os.environ.get("FASTSERVE_HOME") or Path.home() / ".fastserve").expanduser().absolute()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def store_url() -> str:
    """SQLAlchemy URL of the durable store: FASTSERVE_STORE, by default SQLite under the home."""
    return os.environ.get("FASTSERVE_STORE") or f"sqlite:///{home() / 'fastserve.sqlite3'}"


def store_key_file() -> Path:
    """Keys that seal the store's records: FASTSERVE_STORE_KEY_FILE, by default `store.key` in the home."""
    return Path(os.environ.get("FASTSERVE_STORE_KEY_FILE") or home() / "store.key")


def key_file() -> Path:
    """The API keys: FASTSERVE_KEY_FILE, by default `keys.yaml` in the home."""
    return Path(os.environ.get(KEY_FILE_ENV) or home() / "keys.yaml").expanduser().absolute()


def first_key_file() -> Path:
    """Where the table leaves the text of the first API key, for commands on its node."""
    return home() / "key"
