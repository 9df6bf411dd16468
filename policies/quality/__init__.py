"""Predicts how well each model answers one prompt: the model as served, its training, and votes."""
