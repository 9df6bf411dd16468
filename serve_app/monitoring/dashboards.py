"""The four dashboards: overview, model, dispatch and learning, cost and keys."""

from typing import Final

from serve_app.monitoring.cost_dashboard import COST
from serve_app.monitoring.dispatch_dashboard import DISPATCH
from serve_app.monitoring.model_dashboard import MODEL
from serve_app.monitoring.overview_dashboard import OVERVIEW

DASHBOARDS: Final = (OVERVIEW, MODEL, DISPATCH, COST)
