"""The key file: what it may hold."""

import hashlib
from typing import Final, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from deployments.records.budget import Budget
from policies.strict import StrictModel

Role = Literal["infer", "feedback", "read", "admin"]
ALL_ROLES: tuple[Role, ...] = ("infer", "feedback", "read", "admin")
Priority = Literal["interactive", "batch"]
PRIORITIES: Final[tuple[Priority, ...]] = ("interactive", "batch")  # who comes first where requests wait


class KeyLimits(StrictModel):
    """Limits of one API key over all ingress replicas; absent or null: no limit."""

    # Answer 429 above this many requests a second. Default: no limit.
    requests_per_s: float | None = Field(default=None, gt=0, examples=[5])
    # Answer 429 above this many requests at once. Default: no limit.
    concurrency: int | None = Field(default=None, ge=0, examples=[8])
    # Answer 429 above this many prompt and output tokens a minute. Default: no limit.
    tokens_per_min: int | None = Field(default=None, ge=0, examples=[60000])
    # Answer 429 once this many US dollars are spent in a window. Default: no limit.
    budget: Budget | None = Field(default=None, examples=[{"usd": 10, "window": "1d"}])
    # Short for a budget of this many US dollars with the window `1d`. Give either this or `budget`.
    usd_per_day: float | None = Field(default=None, ge=0, examples=[10])
    # List the ids of the models that the key may use. Default: all.
    models: tuple[str, ...] | None = Field(default=None, examples=[["smollm2-135m"]])

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if self.budget is not None and self.usd_per_day is not None:
            raise ValueError(
                "'usd_per_day' and 'budget' are both given: keep 'budget', the other is short for it."
            )
        return self

    @property
    def dollars(self) -> Budget | None:
        """The budget, however it is given."""
        return self.budget if self.usd_per_day is None else Budget(usd=self.usd_per_day)


class KeyEntry(StrictModel):
    """One key of the file: its text, or only its SHA-256 in hex."""

    # Name of the key in logs and metrics; each name once.
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", examples=["web"])
    # The key itself. Give either this or `sha256`.
    key: str | None = Field(
        default=None, min_length=16, max_length=512, examples=["a-text-of-16-to-512-characters"]
    )
    # SHA-256 of the key in hex, so that the file holds no secret. Give either this or `key`.
    sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
    )
    # What the key may do: `infer` sends requests, `feedback` votes, `read` lists models and explains, `admin`
    # sees the usage of all keys.
    roles: tuple[Role, ...] = ("infer", "feedback")
    # Team of the key: its dollars count for `teams.<name>.budget` too.
    team: str = Field(default="", pattern=r"^[A-Za-z0-9_.-]{0,64}$", examples=["search"])
    # Weight of the key where requests wait: one of weight 2 gets twice the slots of one of weight 1.
    weight: float = Field(default=1.0, gt=0.0, le=1000.0, examples=[2])
    # Highest priority of the key's requests where requests wait: `batch` ones come after all `interactive`
    # ones, and are refused first.
    priority: Priority = Field(default="interactive", examples=["batch"])
    # Limits of the key over all ingress replicas.
    limits: KeyLimits = KeyLimits()
    # Time, with its zone, from which on the key is refused; without it never.
    expires_at: AwareDatetime | None = Field(default=None, examples=["2027-01-31T00:00:00Z"])
    # Short hash that keeps limits, spending and votes when the text is replaced; `fastserve keys rotate`
    # writes it. Without it, it is made from the text.
    id: str | None = Field(default=None, pattern=r"^[0-9a-f]{12}$", examples=["9f86d081884c"])
    # SHA-256 of the text before, in hex, which is accepted too until `previous_until`.
    previous_sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        examples=["60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"],
    )
    # Time, with its zone, until which the text before is accepted.
    previous_until: AwareDatetime | None = Field(default=None, examples=["2027-01-31T00:00:00Z"])

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if (self.key is None) == (self.sha256 is None):
            raise ValueError(f"Key '{self.name}': give exactly one of 'key' and 'sha256'.")
        if (self.previous_sha256 is None) != (self.previous_until is None):
            raise ValueError(f"Key '{self.name}': 'previous_sha256' and 'previous_until' go together.")
        return self

    @property
    def identity(self) -> str:
        """The short hash under which logs know the key."""
        return self.id or hashlib.sha256(b"id" + self.digest).hexdigest()[:12]

    @property
    def digest(self) -> bytes:
        """SHA-256 of the key."""
        if self.key is not None:
            return hashlib.sha256(self.key.encode()).digest()
        return bytes.fromhex(self.sha256 or "")


class KeyFile(StrictModel):
    """The whole file; it is read again when it changes."""

    # The keys; at least one. No two may have the same name or text.
    keys: tuple[KeyEntry, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for kind, values in (
            ("name", [k.name for k in self.keys]),
            ("key", [digest for k in self.keys for digest in (k.digest.hex(), k.previous_sha256) if digest]),
            ("id", [k.identity for k in self.keys]),
        ):
            if len(set(values)) < len(values):
                raise ValueError(f"Two keys have the same {kind}.")
        return self
