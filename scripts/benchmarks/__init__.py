"""The subcommands of scripts/bench.py, one file each."""
