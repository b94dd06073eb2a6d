"""Compute many runs once each: the store, the loop that claims and computes, executors."""
