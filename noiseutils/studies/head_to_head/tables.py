"""Tables of head to head: the trials, the differences from no noise, ranks, costs, AutoAttack."""

from __future__ import annotations

import pandas as pd

from noiseutils.stats import CONFIDENCE, holm, mcnemar
from noiseutils.studies.head_to_head.choice import best_of_kinds, chosen, edge, finals
from noiseutils.studies.head_to_head.comparisons import (
    PROFILE,
    Quantity,
    comparisons,
    quantities,
    ranked,
    step_cost,
)
from noiseutils.studies.head_to_head.grid import Cell, epochs_of, final, trial_seeds, trials
from noiseutils.studies.head_to_head.methods import KINDS, METHODS
from noiseutils.studies.head_to_head.params import Params
from noiseutils.studies.results import Results


def settings_table(params: Params) -> pd.DataFrame:
    """List the settings: network, width, images, epochs, learning rate."""
    return pd.DataFrame(
        {
            "setting": setting.name,
            "network": setting.model,
            "width": setting.width,
            "images": "all" if setting.images is None else f"{setting.images:,}",
            "epochs": setting.epochs,
            "learning_rate": setting.learning_rate,
        }
        for setting in params.settings
    )


def budget_table(params: Params) -> pd.DataFrame:
    """List the methods: their kind, what their strength is, what is tried, and with how many trainings."""
    return pd.DataFrame(
        {
            "method": method.label,
            "kind": KINDS.get(method.kind, "–"),
            "strength": f"{method.symbol}: {method.unit}" if method.strengths else "none to choose",
            "tried": ", ".join(f"{strength:g}" for strength in method.tried(params.trials)) or "–",
            "trainings": len(method.tried(params.trials)) * params.trial_seeds,
            "passes": method.passes,
        }
        for method in (METHODS[name] for name in params.methods)
    )


def trials_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """List every trial: validation error, mean over the trial's seeds, and which was chosen.

    edge: where the chosen strength is the weakest or strongest tried, a better one may lie beyond.
    """
    rows = []
    for setting in results.params.settings:
        for name in results.params.methods:
            taken = chosen(results, setting.name, name)
            for cell in trials(results.params, setting.name, name):
                if not results.of_cell(cell):
                    continue
                is_taken = cell == taken
                error = results.interval(cell, "validation_error")
                rows.append(
                    {
                        "setting": cell.setting,
                        "method": METHODS[name].label,
                        "strength": METHODS[name].at(cell.strength),
                        "validation_error": error.mean,
                        "n": error.n,
                        "diverged": results.diverged(cell),
                        "chosen": "chosen" if is_taken else "",
                        "edge": edge(results.params, cell) if is_taken else "",
                    }
                )
    return pd.DataFrame(rows)


def errors_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Set out what networks at the chosen strengths are judged by, means over seeds with their intervals."""
    rows = []
    for setting in results.params.settings:
        for cell in finals(results, setting.name).values():
            if not results.of_cell(cell):
                continue
            row: dict[str, object] = _named(cell)
            for quantity in (quantities(results.params)[name] for name in PROFILE):
                found = results.interval(cell, quantity.column, **quantity.where)
                row |= found.columns(_column(quantity))
            rows.append(
                row | {"n": results.interval(cell, "top1_error").n, "diverged": results.diverged(cell)}
            )
    return pd.DataFrame(rows)


def _column(quantity: Quantity) -> str:
    return quantity.label.replace(", test − training error", "_error").replace(" ", "_").replace("-", "_")


def _named(cell: Cell) -> dict[str, object]:
    method = METHODS[cell.method]
    return {"setting": cell.setting, "method": method.label, "strength": method.at(cell.strength)}


def differences_table(results: Results[Params, Cell], name: str, rival: str = "none") -> pd.DataFrame:
    """Compare every method with a rival in one quantity: paired by seed, corrected over this table.

    name: a key of `comparisons.quantities`.   rival: no noise, or a method at its own chosen strength.
    p_holm: of the paired t test.   verdict: lower, higher or not shown, or why there is none. A setting that
    has no such quantity, as statistics estimated again without a BatchNorm, is left out.
    """
    quantity = quantities(results.params)[name]
    compared = comparisons(results, quantity, rival=rival)
    measured = {found.cell.setting for found in compared if found.by_seed}
    return pd.DataFrame(
        {
            **_named(found.cell),
            "quantity": quantity.label,
            **found.interval.row("difference"),
            "p_holm": found.p,
            "verdict": found.verdict,
            "diverged": results.diverged(found.cell),
        }
        for found in compared
        if found.cell.setting in measured and (found.by_seed or results.of_cell(found.cell))
    )


def same_time_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Compare costly methods with no noise at equal epochs, and in no noise's time, with fewer epochs.

    p_holm: corrected over all methods, those that are not costly as they are.
    """
    quantity = quantities(results.params)["top1"]
    rows = []
    for stage in ("final", "same_time"):
        for found in comparisons(results, quantity, stage):
            if results.of_cell(final(found.cell, "same_time")) and found.by_seed:
                compared = "equal time" if stage == "same_time" else "equal epochs"
                row = {"compared": compared, "epochs": epochs_of(results.params, found.cell)}
                row |= {"quantity": quantity.label, **found.interval.row("difference"), "p_holm": found.p}
                rows.append({**_named(found.cell), **row, "verdict": found.verdict})
    return pd.DataFrame(rows).sort_values(["setting", "method"], kind="stable") if rows else pd.DataFrame()


def ranks_table(results: Results[Params, Cell], name: str = "top1") -> pd.DataFrame:
    """List mean ranks, 1 for the lowest, the best first; bounds by bootstrap over seeds.

    p_friedman: that all ranks are equal.   distance: two mean ranks that differ by less are not told apart
    (Nemenyi).   n: seeds of each setting.
    """
    rows = []
    for found in ranked(results, quantities(results.params)[name]):
        for i in map(int, found.mean.argsort(kind="stable")):
            row = {"setting": found.setting, "method": METHODS[found.methods[i]].label}
            row |= {"rank": found.mean[i], "rank_low": found.low[i], "rank_high": found.high[i]}
            rows.append(row | {"n": found.n, "p_friedman": found.p, "distance": found.distance})
    return pd.DataFrame(rows)


def costs_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """List the time of an epoch's steps over that of no noise, see `comparisons.step_cost`; n seeds."""
    rows = []
    for setting in results.params.settings:
        for method, cell in finals(results, setting.name).items():
            if method != "none" and (seeds := len(results.of_cell(cell))):
                cost = {"step_time": step_cost(results, cell), "passes": METHODS[method].passes}
                rows.append({**_named(cell), **cost, "n": seeds})
    return pd.DataFrame(rows)


def autoattack_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Set out the error under AutoAttack of the best of each kind beside no noise, on equal images.

    chosen_by: validation error, the best of a kind; or FGSM, to which it loses the fewest, by other seeds.
    only_here, only_plain: images that only the one network gets right.   p_holm: exact McNemar, corrected
    over this table.   verdict: more robust where more images are right under the attack, clean ones not taken
    into account.   One row a setting, kind, size and seed; it is of these networks alone.
    """
    answers = {(cell, seed): answer for (cell, seed, _), answer in results.answers.items()}
    best = {cell for s in results.params.settings for cell in best_of_kinds(results, s.name).values()}
    rows = []
    for (cell, seed), answer in answers.items():
        plain = answers.get((cell.plain, seed))
        for size, correct in answer["correct"].items():
            row = {**_named(cell), "kind": KINDS.get(METHODS[cell.method].kind, "–")}
            row |= {"chosen_by": "validation error" if cell in best else "FGSM, other seeds", "seed": seed}
            row |= {"delta_255": float(size), "clean_error": _error(answer["clean"])}
            row |= {"attacked_error": _error(correct), "images": len(correct)}
            if plain is not None and cell != cell.plain:
                flags = [[c == "1" for c in text] for text in (correct, plain["correct"][size])]
                only_here, only_plain, p = mcnemar(*flags)
                row |= {"only_here": only_here, "only_plain": only_plain, "p_holm": p}
            rows.append(row)
    compared = [row for row in rows if "p_holm" in row]
    for row, p in zip(compared, holm([row["p_holm"] for row in compared]), strict=True):
        better = "more robust" if row["only_here"] > row["only_plain"] else "less robust"
        row |= {"p_holm": p, "verdict": better if p < 1 - CONFIDENCE else "not shown"}
    return pd.DataFrame(rows)


def _error(correct: str) -> float:
    return correct.count("0") / len(correct)


def trainings(params: Params) -> int:
    """Count the trainings of a profile, those that follow included."""
    costly = sum(METHODS[name].passes > 1 for name in params.methods)
    tried = sum(len(METHODS[name].tried(params.trials)) for name in params.methods)
    each = tried * len(trial_seeds(params)) + (len(params.methods) + costly) * params.seeds
    return each * len(params.settings)
