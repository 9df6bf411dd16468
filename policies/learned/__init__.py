"""The learned policy as it serves: features, compiled network, checkpoint; without torch."""
