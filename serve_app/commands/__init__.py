"""The subcommands of `fastserve`, one file each, with its `command`.

The first line of each file is its line in the overview. What needs Ray, numpy or a model's code is imported
by the function that uses it: help, a mistyped option and an unreachable cluster are answered at once.
"""
