"""This checkout, and for a while another one of an older revision beside it."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]


@contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """A tree of that revision, which goes with the block."""
    with tempfile.TemporaryDirectory(prefix="fastserve-before-") as folder:
        tree = Path(folder, "before")
        subprocess.run(["git", "worktree", "add", "-q", "--detach", tree, revision], cwd=ROOT, check=True)
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)
