"""Reading the key file, and the file with the text of the first key."""

import os
import stat
from pathlib import Path
from typing import Final

import yaml
from pydantic import ValidationError

from deployments.keys.entries import KeyFile

FORBIDDEN_MODE: Final = (
    0o037  # others: nothing; the group: reading, as Kubernetes mounts Secrets under fsGroup
)


def read_key_file(path: Path) -> KeyFile:
    """The checked key file. Raises OSError, or ValueError naming what is wrong (never a key)."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & FORBIDDEN_MODE:
        raise ValueError(
            f"Key file '{path}' has mode {mode:o}: only its owner may write and only its group may read "
            f"it (chmod 600)."
        )
    try:
        document = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ValueError(f"Key file '{path}' is not YAML.") from None
    try:
        return KeyFile.model_validate(document)
    except ValidationError as error:  # its own text repeats what is in the file
        raise ValueError(f"Key file '{path}': {_reasons(error)}") from None


def _reasons(error: ValidationError) -> str:
    """What is wrong and where, without the values."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return " ".join(
        f"{'.'.join(map(str, one['loc'])) or 'file'}: {one['msg'].removeprefix('Value error, ')}"
        for one in found
    )


def write_secret(path: Path, text: str) -> None:
    """Put a file that only its owner may read in the place of what is there, in one step."""
    new = path.with_name(f".{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
