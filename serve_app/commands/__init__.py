"""The subcommands of `fastserve`, one file each."""
