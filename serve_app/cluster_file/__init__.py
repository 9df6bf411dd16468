"""The config file of a cluster: read, checked, compared with what runs, applied, and its history."""
