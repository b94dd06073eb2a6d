"""Noise as a regulariser of convolutional networks: four papers, as a library and as notebooks.

from noiseutils import Run, train
result = train(Run())
"""

from noiseutils.training import orphans  # noqa: F401  first of all: notes which process started this one

# isort: split
from noiseutils import _torchvision_shim  # noqa: F401  before anything that may import torchvision
from noiseutils.config import Run
from noiseutils.provenance import VERSION as __version__  # noqa: F401
from noiseutils.training.loop import Result, train

__all__ = ["Result", "Run", "train"]
