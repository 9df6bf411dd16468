"""What people and CI both run."""
