"""The condition under which a notebook measures the cost of a training step.

With more threads than one the step of a narrow network is waiting above all: on two cores that others use,
too, two threads take ten times as long over one as one thread does.
"""

from noiseutils.sweeps.jobs import one_thread

__all__ = ["one_thread"]
