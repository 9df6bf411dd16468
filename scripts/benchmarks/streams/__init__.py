"""Many streams at once: what a token costs on its way through the ingress."""
