"""Show live views in notebooks: watch a training, attack its networks, browse stored runs.

    TrainingLab(params)      two trainings side by side, tuned while they run
    AttackLab(networks, …)   an image, a perturbation, and the answers of two networks
    ResultExplorer(…)        the stored runs of a study

A view is alive where a page can handle controls (JupyterLab, Voila); elsewhere, as under papermill, the view
runs at once and shows the last frame. No other room imports this one.
"""

from noiseutils.book.extras import notebooks_extra

with notebooks_extra():
    from noiseutils.widgets.attack import AttackLab
    from noiseutils.widgets.results import ResultExplorer
    from noiseutils.widgets.training import TrainingLab

__all__ = ["AttackLab", "ResultExplorer", "TrainingLab"]
