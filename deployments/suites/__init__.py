"""What models are evaluated on: items and suite files."""
