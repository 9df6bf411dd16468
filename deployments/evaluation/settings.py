"""Settings of the evaluator: all of it is `user_config`, so that a change restarts nothing."""

from pathlib import Path

from pydantic import Field

from deployments.learning.settings import FitSettings
from deployments.shipped import found
from policies.strict import StrictModel


class PaceSettings(StrictModel):
    """How far the evaluator keeps out of the users' way."""

    concurrency: int = Field(default=2, ge=1, le=256)  # requests at once per model
    user_share: float = Field(default=0.25, ge=0, le=1)  # of a model's slots that users may hold meanwhile
    shared_machine: bool = False  # models share processors: users of any of them count for all
    quiet_s: float = Field(default=0.0, ge=0)  # seconds without too many users before it goes on
    met_share: float = Field(
        default=1.0, ge=0, le=1
    )  # of users' requests that may come upon an evaluation at most
    give_way: bool = True  # cut requests off when users come; they are asked again later


class BudgetSettings(StrictModel):
    """What evaluation may use in any 24 hours; None is no limit."""

    tokens_per_day: int | None = Field(default=None, ge=0)  # prompt and output tokens
    usd_per_day: float | None = Field(default=None, ge=0)  # US dollars, by the prices of the models


class EvaluatorSettings(StrictModel):
    """`user_config` of deployment Evaluator: all of it changes live. Without suites it only waits."""

    endpoint: str = "http://127.0.0.1:8000"  # URL of the pool, without /v1
    suites: tuple[str, ...] = ()  # files; relative ones are found from the working or the project folder
    models: tuple[str, ...] | None = None  # None is every model of the pool
    # seconds between looks for a new or changed model or suite
    interval_s: float = Field(default=60.0, ge=1.0)
    # seconds after which unchanged models are asked again; None: never
    refresh_s: float | None = Field(default=None, ge=60.0)
    # seconds without any answer of a model: left for the next round
    give_up_s: float = Field(default=300.0, gt=0)
    request_s: float = Field(default=120.0, gt=0)  # seconds that one answer may take
    pace: PaceSettings = PaceSettings()  # giving way to users
    budget: BudgetSettings = BudgetSettings()  # limits of a day
    fit: FitSettings = FitSettings()  # fitting the quality model

    def paths(self) -> list[Path]:
        """The suites' files."""
        return [found(name) for name in self.suites]
