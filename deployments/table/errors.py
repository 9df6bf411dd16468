"""What may go wrong between the table and those who call it."""


class TableError(RuntimeError):
    """The table cannot be reached now."""


class StorageUnavailableError(RuntimeError):
    """The store cannot take this now: disk full, locked, unreachable. Serving goes on without it."""


class ConflictError(RuntimeError):
    """The rollout state was changed by somebody else since it was read: read it again, decide again."""


class FencedError(StorageUnavailableError):
    """Another cluster on the same store writes policy state; this one waits until that one ends."""
