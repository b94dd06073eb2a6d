"""Checks before anything is trained: images, networks, places for noise."""

from __future__ import annotations

from noiseutils.config import Data, Run
from noiseutils.data import Dataset, load
from noiseutils.errors import UserError
from noiseutils.sweeps.store import Store
from noiseutils.training.classifier import attach_noise, build_classifier


def load_sets(runs: list[Run], todo: list[Run]) -> dict[Data, Dataset]:
    """Load the images of all runs that can be had; those of runs still to do must be there."""
    needed = dict.fromkeys(run.data for run in todo)
    sets = {}
    for data in dict.fromkeys(run.data for run in runs):
        try:
            sets[data] = load(data)
        except UserError:
            if data in needed:
                raise  # else everything is stored: results can be had where the images are not
    return sets


def check_images(runs: list[Run], sets: dict[Data, Dataset], store: Store) -> None:
    """Raise UserError when stored results come from other images than those that go by the same label."""
    for run in runs:
        found = store.fingerprint(run) if run.data in sets else None
        if found is not None and found != sets[run.data].fingerprint:
            raise UserError(
                f"the stored results for {run.data.label!r} come from other images than those in "
                f"{run.data.root or 'the data folder'}: give these another folder name, or remove "
                f"{store.root / run.key}"
            )


def check_networks(todo: list[Run], sets: dict[Data, Dataset]) -> None:
    """Raise UserError for a model, or a place for noise in it, that is not there: before any training."""
    for run in {(r.data, r.model, r.after, r.noise, r.validation_size): r for r in todo}.values():
        data = sets[run.data]
        if run.validation_size >= len(data.train):
            raise UserError(
                f"validation_size {run.validation_size:,} leaves nothing to train on: {run.data.label} has "
                f"{len(data.train):,} training images"
            )
        model = build_classifier(run, data.num_classes, data.channels, data.image_size)
        attach_noise(model, run, data.num_classes, seed=0)
