"""The grid of head to head: setting x method x strength, and what follows from it.

Every method has the same budget: as many strengths, trained from the same seeds, chosen by the error on
images that are held out of the training set. Trials are the grid; what follows are the trainings at the
chosen strength, from other seeds, so that no network that chose is judged.

All methods of a setting share network, initial weights, batch order, images, learning rate, epochs. Without a
method of its own there is no augmentation, no dropout, no weight decay.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from noiseutils.config import Data, Evaluation, Model, Optimizer, Run
from noiseutils.evaluation.evaluate import TRAINING
from noiseutils.studies.head_to_head.methods import METHODS, Training, half_cosine
from noiseutils.studies.head_to_head.params import Params, Setting
from noiseutils.studies.params import data_of
from noiseutils.studies.registry import settings_of
from noiseutils.studies.results import CLEAN, Record, conditions, share_lost
from noiseutils.studies.study import made_once
from noiseutils.training.loop import Result

TRIAL_SEEDS = 1000  # seeds of trials begin here
COSTLY_PASSES = 1.2  # passes of a step from which on a method is trained for no noise's time, too


@dataclass(frozen=True)
class Cell:
    """One kind of training.

    stage: trial, of which one is chosen; final; or same_time, in as many epochs as no noise's time allows.
    """

    setting: str
    method: str
    strength: float = 0.0
    stage: str = "trial"

    @property
    def plain(self) -> Cell:
        """Return the training without noise that this one is compared with."""
        return Cell(self.setting, "none", 0.0, "final")


def cells(params: Params) -> list[Cell]:
    """Return the trials, setting by setting."""
    return [cell for setting in params.settings for cell in trials(params, setting.name)]


def trials(params: Params, setting: str, method: str | None = None) -> list[Cell]:
    """Return the trials of a setting, of one method or all."""
    return [
        Cell(setting, name, strength)
        for name in (params.methods if method is None else (method,))
        for strength in METHODS[name].tried(params.trials)
    ]


def trial_seeds(params: Params) -> range:
    """Return the seeds of each trial."""
    return range(params.trial_seeds)


def stages(params: Params) -> list[list[Cell]]:
    """Return the trials by setting: what follows from those of one setting is trained before the next."""
    return [found for setting in params.settings if (found := trials(params, setting.name))]


def settings(params: Params, cell: Cell) -> str:
    """Return how a cell was made, a key of `stats.SETTINGS`: no paper has this setting."""
    return settings_of(data_of(params).label, (), as_read=False)


def images_of(params: Params, setting: Setting) -> Data:
    """Return the images of a setting: those trained on and those held out are what is loaded."""
    data = data_of(params)
    return (
        data if setting.images is None else data.replace(train_size=setting.images + params.validation_size)
    )


def epochs_of(params: Params, cell: Cell) -> int:
    """Return the epochs of a cell."""
    epochs = params.setting(cell.setting).epochs
    return max(1, round(epochs / METHODS[cell.method].passes)) if cell.stage == "same_time" else epochs


@made_once
def run_of(params: Params, cell: Cell, seed: int) -> Run:
    """Return the training of one cell and seed."""
    setting, epochs = params.setting(cell.setting), epochs_of(params, cell)
    run = Run(
        data=images_of(params, setting),
        model=Model(name=setting.model, width=setting.width),
        optimizer=Optimizer(momentum=params.momentum),
        schedule=half_cosine(setting.learning_rate, epochs),
        epochs=epochs,
        batch_size=params.batch_size,
        validation_size=params.validation_size,
        evaluation=_evaluation(params, cell),
        seed=seed + (TRIAL_SEEDS if cell.stage == "trial" else 0),
    )
    training = Training(setting.model, epochs, params.momentum, setting.learning_rate)
    return run.replace(**METHODS[cell.method].parts(cell.strength, training))


def _evaluation(params: Params, cell: Cell) -> Evaluation:
    """Return what the network is put through; that of a trial is asked for its validation error alone."""
    if cell.stage == "trial":
        return Evaluation(recalibrate=False)
    return Evaluation(
        noise=(params.noise,),
        blur=(params.blur,),
        fgsm=(params.fgsm_255 / 255,),
        training_images=params.training_images,
    )


def final(cell: Cell, stage: str = "final") -> Cell:
    """Return the training at the strength of a trial."""
    return replace(cell, stage=stage)


def records(result: Result) -> list[Record]:
    """Return the records of a result's evaluation; those of clean images have more.

    lost: of the images that are right without a corruption, the share that it turns wrong.
    validation_error: top-1, on the images held out, after the last epoch.   gap: test minus training error,
    both of the trained network on images as they are.   epoch_seconds: of the fastest epoch, training alone.
    """
    found = [dict(record) for record in conditions(result)]
    training, clean = (
        {record["statistics"]: record["top1_error"] for record in found if record["condition"] == condition}
        for condition in (TRAINING, CLEAN["condition"])
    )
    history = result.history
    for record in found:
        if record["condition"] == CLEAN["condition"]:
            record["validation_error"] = 1 - float(history.validation_accuracy.iloc[-1])
            record["epoch_seconds"] = float(history.seconds.min())
            if record["statistics"] in training:
                record["gap"] = record["top1_error"] - training[record["statistics"]]
        elif record["condition"] != TRAINING and record["statistics"] in clean:
            record["lost"] = share_lost(clean[record["statistics"]], record["top1_error"])
    return found
