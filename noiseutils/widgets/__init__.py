"""Live views for notebooks: watch a training, attack its networks, browse what is stored.

    TrainingLab(params)      two trainings side by side, tuned while they run
    AttackLab(networks, …)   an image, a perturbation, and what two networks make of it
    ResultExplorer(…)        the stored runs of a study

A view is alive where a page can answer (JupyterLab, Voila); elsewhere, as under papermill, it does its work
at once and shows the last frame. Nothing else in the package imports this one.
"""

from noiseutils.book.page import notebooks_extra

with notebooks_extra():
    from noiseutils.widgets.attack import AttackLab
    from noiseutils.widgets.results import ResultExplorer
    from noiseutils.widgets.training import TrainingLab

__all__ = ["AttackLab", "ResultExplorer", "TrainingLab"]
