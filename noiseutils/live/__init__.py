"""Run and draw for the live views: trainings in a thread, probes of their steps, pictures, attacks."""
