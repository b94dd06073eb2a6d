"""Compute many runs once each: the store, what is claimed by whom, executors."""
