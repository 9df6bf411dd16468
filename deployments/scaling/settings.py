"""What an operator says about a model whose replicas follow the plan."""

from pydantic import Field

from policies.scaling import Goal
from policies.strict import StrictModel


class PlanSettings(StrictModel):
    """What policy `deployments.model.autoscaling:PlannedReplicas` aims at; a change restarts nothing.

    Beside it `upscale_delay_s` and `downscale_delay_s` must be 0, and `min_replicas` too if it may sleep.
    How long a start takes is measured.
    """

    # Keep so many replicas that the first token comes within this many seconds, as predicted.
    target_ttft_s: float = Field(default=1.0, gt=0, examples=[0.5])
    # Share of requests whose first token has to come in time.
    share: float = Field(default=0.99, gt=0, lt=1, examples=[0.95])
    # Seconds without a request that names the model, and with little that `auto` would send it, after which
    # it sleeps: its last replica goes. Only with `min_replicas: 0`.
    idle_s: float = Field(default=300.0, gt=0, examples=[900])
    # Wake a model that sleeps when `auto` would have sent it this many requests of late, a count that fades
    # over `idle_s`. 0: only a request that names it wakes it.
    wake_requests: float = Field(default=5.0, ge=0, examples=[20])

    def goal(self) -> Goal:
        """For the plan."""
        return Goal(self.target_ttft_s, self.share, self.idle_s, self.wake_requests)
