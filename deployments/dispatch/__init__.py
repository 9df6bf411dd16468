"""Chooses a model for one request: masks, columns, the policies in use, protection of keys."""
