"""Prefix caches and the choice of replica, simulated in virtual time."""
