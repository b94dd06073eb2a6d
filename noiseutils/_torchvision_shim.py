"""Lets `import torchvision` work beside a CPU build of torch (pytorch/vision#9085).

torchvision's wheel on PyPI is built against the CUDA build of torch. Beside a CPU build its compiled
operators do not load, and `import torchvision` dies where it registers the shapes of `nms` and `qnms`,
which nobody has declared. Importing this module declares the two, without an implementation: datasets,
transforms and models then work, and a call of `torchvision.ops.nms` still fails. It must be imported before
torchvision. Where the compiled library loads, or torchvision is not installed, nothing is declared.
"""

import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec

import torch

SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def declare_missing() -> torch.library.Library | None:
    """Declare the schemas that torchvision's import needs, if its compiled library cannot load.

    Returns the library that holds them (they live as long as it does), or None if nothing was declared.
    """
    # On Windows both wheels are CPU builds, and loading needs DLL folders that torchvision adds itself.
    if sys.platform == "win32" or _declared("nms"):
        return None
    package = find_spec("torchvision")
    if package is None or _compiled_library_loads(list(package.submodule_search_locations or [])):
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, signature in SCHEMAS.items():
        if not _declared(name):
            library.define(name + signature)
    return library


def _declared(name: str) -> bool:
    return hasattr(torch.ops.torchvision, name)


def _compiled_library_loads(folders: list[str]) -> bool:
    # The call that torchvision makes when it is imported; a second one costs nothing.
    extension = PathFinder.find_spec("_C", folders)
    if extension is None or extension.origin is None:
        return False
    try:
        torch.ops.load_library(extension.origin)
    except OSError:
        return False
    return True


LIBRARY = declare_missing()
