"""Measure trained networks: accuracy, calibration, robustness, activations and gradients."""
