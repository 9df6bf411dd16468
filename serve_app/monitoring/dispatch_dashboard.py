"""Which model gets what share, and what the policy learned: the third dashboard."""

from typing import Final

from serve_app.monitoring.panels import Dashboard, Row, chart
from serve_app.monitoring.query import RANGE, added, of_all, rate, ratio, share, value
from serve_app.monitoring.series import percentiles

_AUTO: Final = ('requested=~"auto(:.*)?"',)

DISPATCH: Final = Dashboard(
    "fastserve-dispatch",
    "FastServe: dispatch and learning",
    "Which model gets what share, who decides it and how fast, and what the policy has learned.",
    (
        Row(
            "Dispatch",
            (
                chart(
                    "Share of decisions",
                    "percentunit",
                    "By the model that was chosen, `auto` only.",
                    (
                        of_all(
                            rate("fastserve_dispatches", ("model",), _AUTO),
                            rate("fastserve_dispatches", (), _AUTO),
                        ),
                        "{{model}}",
                    ),
                    stacked=True,
                ),
                chart(
                    "Who decides",
                    "cps",
                    "`named`: the caller. A fallback stands behind a semicolon.",
                    (rate("fastserve_dispatches", ("policy",)), "{{policy}}"),
                    stacked=True,
                ),
                chart(
                    "Time of a decision",
                    "s",
                    "Features included.",
                    *percentiles("fastserve_decision_time", 50, 99),
                ),
                chart(
                    "Decisions by what was asked for",
                    "cps",
                    "`auto`, a profile, or a model by name.",
                    (rate("fastserve_dispatches", ("requested",)), "{{requested}}"),
                    stacked=True,
                ),
                chart(
                    "Explored",
                    "percentunit",
                    "Share of decisions for a model that was not the most probable one.",
                    (share(rate("fastserve_explorations"), rate("fastserve_dispatches")), "explored"),
                ),
                chart(
                    "Passed over",
                    "cps",
                    "Requests that left the chosen model, by why.",
                    (rate("fastserve_fallbacks", ("reason",)), "{{reason}}"),
                ),
            ),
        ),
        Row(
            "Learning",
            (
                chart(
                    "Versions",
                    "none",
                    "Active 0 is the priced rule, candidate 0 is none.",
                    (value("fastserve_policy_version", ("stage",), how="max"), "{{stage}}"),
                ),
                chart(
                    "Share of the candidate",
                    "percentunit",
                    "Of the requests, while one is on trial.",
                    (value("fastserve_candidate_share", how="max"), "candidate"),
                ),
                chart(
                    "Steps of versions",
                    "short",
                    "Trained, verdicts, promoted, rolled back; over the range that is shown.",
                    (added("fastserve_policy_events", ("kind",), window=RANGE), "{{kind}}"),
                ),
                chart(
                    "Graded accuracy",
                    "percentunit",
                    "Over all tasks of the evaluation.",
                    (value("fastserve_accuracy", ("model",), ('task="all"',), "max"), "{{model}}"),
                ),
                chart(
                    "Graded pairs",
                    "short",
                    "Live prompts graded for both versions of a canary; over the range that is shown.",
                    (added("fastserve_graded_pairs", ("result",), window=RANGE), "{{result}}"),
                ),
                chart(
                    "Votes",
                    "cps",
                    "By metric.",
                    (rate("fastserve_votes", ("metric",)), "{{metric}}"),
                ),
                chart(
                    "Mean vote",
                    "percentunit",
                    "0 is bad, 1 is good.",
                    (
                        ratio(
                            rate("fastserve_vote_scores", ("metric",)), rate("fastserve_votes", ("metric",))
                        ),
                        "{{metric}}",
                    ),
                ),
            ),
        ),
    ),
    {},
)
