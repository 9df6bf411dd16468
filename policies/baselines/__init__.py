"""Policies to be measured against, each behind the same interface as ours."""
