"""Every metric by name, and where metrics go."""
