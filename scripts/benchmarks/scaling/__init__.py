"""How many replicas follow a day's requests: our plan against Ray Serve's own policy."""
