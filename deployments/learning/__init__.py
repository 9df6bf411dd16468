"""Trains candidates from what the table holds and takes them through gates, canary and alarms."""
