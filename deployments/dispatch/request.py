"""What the dispatcher is asked: one request, reduced to what a choice of model depends on."""

from dataclasses import dataclass

from policies.profile import Profile
from policies.utility import Weights


@dataclass(frozen=True, slots=True)
class DispatchRequest:
    """`requested` is "auto", "auto:<profile>" or a model id; None means that there is no such limit."""

    decision_id: str
    requested: str
    text: str  # the prompt as one string
    turns: int = 1
    max_tokens: int | None = None
    needs: frozenset[str] = frozenset()  # capabilities
    weights: Weights | None = None  # instead of the profile's
    allowed: tuple[str, ...] | None = None  # by key and request
    max_latency_s: float | None = None
    max_cost_usd: float | None = None
    key_id: str = ""
    session: str | None = None
    excluded: frozenset[str] = frozenset()  # models already tried
    prompt_tokens: int | None = None  # where it is known exactly
    structured: bool = False  # JSON, a schema or tools are asked for

    def session_key(self, profile: Profile) -> str | None:
        """Under what the session's model is kept; None without a session or where the profile keeps none."""
        if not (profile.sticky and self.session):
            return None
        return f"{profile.name}\0{self.key_id}\0{self.session}"


class UnknownModelError(LookupError):
    """A request named a model that is not served."""

    def __init__(self, model: str, served: tuple[str, ...]) -> None:
        listed = ", ".join(f"'{one}'" for one in served) or "none"
        super().__init__(f"Model '{model}' is not served. Served: {listed}.")
        self.model = model
        self.served = served
