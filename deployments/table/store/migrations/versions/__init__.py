"""One module a revision, in order; a released one never changes."""
