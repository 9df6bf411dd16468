"""API keys: the key file, what a key may do, and the watch that only the table keeps over them."""
