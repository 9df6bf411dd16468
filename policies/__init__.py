"""What decides: observations, policies, models of quality and latency, learning. Knows no server."""
