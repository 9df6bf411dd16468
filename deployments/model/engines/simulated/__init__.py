"""An engine without a model: seeded batching and canned text, for load and fault tests."""
