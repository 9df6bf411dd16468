"""Clients of other makers against the endpoint, each in an environment of its own."""
