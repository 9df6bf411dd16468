"""The subcommands that show how the pool does."""
