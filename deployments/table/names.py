"""How the table's actor is called on Ray; light, for those who only look for it."""

from typing import Final

VERSION: Final = 5  # raised when old and new code cannot share one actor, as where a method is new
NAME: Final = f"fastserve:table:v{VERSION}"
NAMESPACE: Final = "fastserve"
