"""Data sets as uint8 tensors on the device, and their batches. Nothing ever falls back to other data."""

from noiseutils.data.batches import (
    assemble,
    batch_parts,
    batches,
    crop_and_flip,
    draw_augmentation,
    draw_epoch,
    draws,
)
from noiseutils.data.dataset import AnyImages, Dataset
from noiseutils.data.images import Images, to_float
from noiseutils.data.loading import DATASETS, load

__all__ = [
    "DATASETS",
    "AnyImages",
    "Dataset",
    "Images",
    "assemble",
    "batch_parts",
    "batches",
    "crop_and_flip",
    "draw_augmentation",
    "draw_epoch",
    "draws",
    "load",
    "to_float",
]
