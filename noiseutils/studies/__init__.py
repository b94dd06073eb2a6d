"""The studies: one module a paper. Each has Params, runs(params), NOTEBOOK, tables and figures."""

from noiseutils.studies import noisy_dropout

STUDIES = {"noisy_dropout": noisy_dropout}
