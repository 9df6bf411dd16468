"""PPO on the simulated pool: network, rollouts, loss, training loop."""
