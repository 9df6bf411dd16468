"""The API key that commands use to call the endpoint."""

import os

from deployments.home import first_key_file
from deployments.keys.watch import KEY_ENV
from serve_app.console.errors import CommandError


def own_key() -> str:
    """FASTSERVE_API_KEY, or the first key, which the table left on its node. Raises CommandError."""
    if key := os.environ.get(KEY_ENV):
        return key
    file = first_key_file()
    try:
        return file.read_text().strip()
    except OSError as error:
        raise CommandError(
            f"No API key in '{file}' ({error.strerror}). Run this on the head node, once the pool has "
            f"started, or set {KEY_ENV}."
        ) from error
