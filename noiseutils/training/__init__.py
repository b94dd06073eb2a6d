"""Train one network: set-up, the loop, one step, checkpoints, several processes."""
