"""How many replicas models need: what operators ask for, and the plan that the table makes of requests."""
