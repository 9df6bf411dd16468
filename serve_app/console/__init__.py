"""The cluster as the command line reaches it and shows it."""
