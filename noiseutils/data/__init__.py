"""Data sets as uint8 tensors on the device, and their batches. Nothing ever falls back to other data."""

from noiseutils.data.images import (
    DATASETS,
    AnyImages,
    Dataset,
    Images,
    assemble,
    batch_parts,
    batches,
    crop_and_flip,
    draw_augmentation,
    draw_epoch,
    draws,
    load,
    to_float,
)

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
