"""The credential of internal callers such as the evaluator: of the pool's secret, never a user's key."""

import hmac


def internal_credential(secret: str) -> str:
    """What an internal caller sends as its bearer token; `secret` is the table's."""
    return f"fsi-{hmac.digest(secret.encode(), b'fastserve internal caller v1', 'sha256').hex()}"
