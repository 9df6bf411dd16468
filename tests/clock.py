"""A clock for tests: seconds that pass only when a test says so."""


class Clock:
    """Give it wherever a clock is asked for; set or raise `now_s`."""

    def __init__(self, now_s: float = 1_000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s
