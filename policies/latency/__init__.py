"""Predicts latency and answer length of each model for one prompt at the present load; fits that model."""
