"""What may go wrong between the table and those who call it."""


class TableError(RuntimeError):
    """The table cannot be reached now."""


class StorageUnavailableError(RuntimeError):
    """The store cannot take this now: disk full, locked, unreachable. Serving goes on without it."""
