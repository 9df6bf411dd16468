"""A simulated pool: arrivals, queues with continuous batching, the environment that policies train in."""
