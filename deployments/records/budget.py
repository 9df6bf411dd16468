"""How many dollars may be spent in a window of time."""

from pydantic import Field, field_validator

from deployments.records.leases import NANO
from deployments.records.windows import LONGEST_S, PATTERN, bounds
from policies.strict import StrictModel


class Budget(StrictModel):
    """Dollars for each window; the windows follow each other, in UTC."""

    # US dollars that may be spent in each window. 0 lets nothing through.
    usd: float = Field(ge=0, examples=[10])
    # Length of a window: a number of minutes below 60, of hours, days or weeks (`15m`, `12h`, `1d`, `2w`; at
    # most 400 days), or `month`. Days begin at 0:00 UTC, weeks on Monday, months on the first.
    window: str = Field(default="1d", pattern=PATTERN, examples=["1d"])

    @field_validator("window")
    @classmethod
    def _kept(cls, value: str) -> str:
        start_s, end_s = bounds(value, 0.0)
        if end_s - start_s > LONGEST_S:
            raise ValueError(f"window: '{value}' is longer than 400 days, for which spending is kept.")
        return value

    @property
    def nano_usd(self) -> int:
        """The dollars, exact."""
        return round(self.usd * NANO)
