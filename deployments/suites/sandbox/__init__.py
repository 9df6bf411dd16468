"""Runs code that a model wrote: locked down by the kernel, judged in a process that it cannot reach."""
