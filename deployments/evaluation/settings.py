"""Settings of the evaluator: all of it is `user_config`, so that a change restarts nothing."""

from pathlib import Path

from pydantic import Field

from deployments.learning.settings import FitSettings
from deployments.shipped import found
from policies.strict import StrictModel


class PaceSettings(StrictModel):
    """How far the evaluator keeps out of the users' way."""

    # Send at most this many requests at once to each model.
    concurrency: int = Field(default=2, ge=1, le=256)
    # Pause a model's evaluation while users hold more than this share of its slots.
    user_share: float = Field(default=0.25, ge=0, le=1)
    # Count users of every model, because the models share processors.
    shared_machine: bool = False
    # Wait this many seconds with few users before evaluation continues.
    quiet_s: float = Field(default=0.0, ge=0, examples=[2.0])
    # Keep the share of users' requests that run beside an evaluation at or below this value.
    met_share: float = Field(default=1.0, ge=0, le=1, examples=[0.01])
    # Cancel running questions when users arrive, and repeat them later.
    give_way: bool = True


class BudgetSettings(StrictModel):
    """What evaluation may use in any 24 hours; None is no limit."""

    # Use at most this many prompt and output tokens in any 24 hours. Default: no limit.
    tokens_per_day: int | None = Field(default=None, ge=0, examples=[1000000])
    # Spend at most this many US dollars in any 24 hours, by the models' prices. Default: no limit.
    usd_per_day: float | None = Field(default=None, ge=0, examples=[5.0])


class EvaluatorSettings(StrictModel):
    """`user_config` of deployment Evaluator: all of it changes live. Without suites it only waits."""

    # URL of the endpoint that is evaluated, without `/v1`. Default: any ingress replica that is alive, as the
    # table knows. Without HAProxy they have no address, and `fastserve validate` asks for this.
    endpoint: str | None = Field(default=None, examples=["http://127.0.0.1:8000"])
    # Files of the suites. A file that the working folder lacks is taken from the FastServe package.
    suites: tuple[str, ...] = ()
    # Evaluate only these models. Default: all models that can chat.
    models: tuple[str, ...] | None = Field(default=None, examples=[["small", "large"]])
    # Look for new or changed models and suites every this many seconds.
    interval_s: float = Field(default=60.0, ge=1.0)
    # Ask unchanged models again after this many seconds. Default: never. Set it for external models.
    refresh_s: float | None = Field(default=None, ge=60.0, examples=[604800.0])
    # Leave a model for the next round after this many seconds without any answer from it.
    give_up_s: float = Field(default=300.0, gt=0)
    # End one question after this many seconds.
    request_s: float = Field(default=120.0, gt=0)
    # How the evaluation gives way to users.
    pace: PaceSettings = PaceSettings()
    # What the evaluation may use per day.
    budget: BudgetSettings = BudgetSettings()
    # How the quality model is fitted.
    fit: FitSettings = FitSettings()

    def paths(self) -> list[Path]:
        """The suites' files."""
        return [found(name) for name in self.suites]
