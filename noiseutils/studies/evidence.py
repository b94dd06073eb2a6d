"""The best evidence for every claim of every paper, from the committed results: what was found."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from noiseutils.errors import UserError
from noiseutils.provenance import reference_root
from noiseutils.stats import MIN_SEEDS, NUMBER_JUDGED, SETTINGS
from noiseutils.studies import STUDIES
from noiseutils.studies.profiles import read_yaml
from noiseutils.studies.readable import claimed_in_points, effect, is_share_difference
from noiseutils.studies.registry import listed, made_of, trained_on
from noiseutils.studies.results import Results
from noiseutils.sweeps.store import Store
from noiseutils.training.loop import Result

log = logging.getLogger("noiseutils")

JUDGED = ("held", "the opposite", "not shown")  # verdicts; anything else says why there is none


def evidence(
    studies: Iterable[str] = STUDIES,
    reference: Path | None = None,
    more: Mapping[str, Sequence[pd.DataFrame]] | None = None,
) -> pd.DataFrame:
    """Judge every claim by each profile under outputs/reference, and keep the best evidence for each.

    Returns a row a claim, and one a reading or control beside: study, profile and the columns of
    `registry.judge`. The best is that with a verdict, then that closest to the paper's setting, then that of
    most seeds, then that of most kinds of training, such as noise levels, then that of most looks, whose
    verdicts are the strictest.   reference: the folder of committed results; None: the project's.   more: by
    study, further tables of verdicts with their profile.
    """
    rows, reference = [], reference or reference_root()
    for name in studies:
        study = STUDIES[name]
        if not study.claims:
            continue
        without_results = study.results(study.Params.read({}, "its defaults"), [])
        tables = [study.verdicts(without_results).assign(profile="")]
        tables += [
            study.verdicts(results).assign(profile=folder.name)
            for folder, results in sets_of(reference, name)
        ]
        tables += (more or {}).get(name, ())
        known = pd.concat(tables, ignore_index=True)
        rows.append(_best(known).assign(study=name))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def sets_of(reference: Path, study: str = "*") -> Iterator[tuple[Path, Results]]:
    """Yield folders of committed results, of one study or all, and what is in them; name what is damaged."""
    for path in sorted(reference.glob(f"{study}/*/params.yaml")):
        try:
            found = results_of(path.parent)
        except UserError as damage:
            log.warning("%s: these results are left out: %s", path.parent, damage)
        else:
            yield path.parent, found


def results_of(folder: Path) -> Results:
    """Return the committed results of one folder under outputs/reference; trains and renders nothing."""
    study = STUDIES[folder.parent.name]
    params = study.Params.read(read_yaml(folder / "params.yaml"), str(folder / "params.yaml"))
    return study.stored(params, Store(folder / "runs"))


def _best(known: pd.DataFrame) -> pd.DataFrame:
    order = list(SETTINGS)
    ranked = known.assign(
        judged=known.verdict.isin(JUDGED),
        nearness=[
            -order.index(s) if s in order and n else -len(order)
            for s, n in zip(known.settings, known.n, strict=True)
        ],
        # rendered tables of earlier versions lack these
        **{name: known[name].fillna(0) if name in known else 0 for name in ("cells", "looks")},
    ).sort_values(["judged", "nearness", "n", "cells", "looks"], ascending=False, kind="stable")
    best = ranked.drop_duplicates("name")
    names = list(dict.fromkeys(known.name))  # as the registry has them
    return best.set_index("name").loc[names].reset_index().drop(columns=["judged", "nearness"])


def summary(claims: pd.DataFrame) -> pd.DataFrame:
    """Count the claims of each study: in all, with a verdict from real images, and how each of those went.

    What stands beside claims is not counted. replicated: held on the paper's own images at its setting;
    `held` counts the others that held.
    """
    rows, claims = [], claims.loc[claims.counted]
    for study, table in [*claims.groupby("study", sort=False), ("all", claims)]:
        real = table.verdict.isin(JUDGED) & (table.n >= MIN_SEEDS)
        words = Counter(table.verdict[real])
        replicated = int((real & (table.verdict == "held") & (table.settings == "paper")).sum())
        row = {"study": study, "claims": len(table), "judged": int(real.sum()), "replicated": replicated}
        row |= {"held": words["held"] - replicated}
        row |= {word: words[word] for word in JUDGED[1:]}
        rows.append(row | {f"open: {why}": n for why, n in Counter(table.verdict[~real]).items()})
    counts = pd.DataFrame(rows).set_index("study").fillna(0).astype(int)
    return counts.reset_index()


def printed(studies: Iterable[str] = STUDIES, reference: Path | None = None) -> pd.DataFrame:
    """Count the numbers that the papers of studies print, and those that stand beside ours.

    Columns: study; printed; compared: measured here at least once; six_seeds: with six seeds or more; agree,
    of those with a verdict; settings: of our best, with counts. The best is nearest to the paper's setting.
    """
    rows, order = [], list(SETTINGS)
    for study in (STUDIES[name] for name in studies):
        without_results = study.results(study.Params.read({}, "its defaults"), [])
        places = study.numbers(without_results).index.unique()
        found = [study.numbers(results) for _, results in sets_of(reference or reference_root(), study.name)]
        measured = pd.concat([table.loc[table.n > 0] for table in found]) if found else pd.DataFrame()
        if not len(places):
            continue
        row = {
            "study": study.name,
            "printed": len(places),
            "compared": 0,
            "six_seeds": 0,
            "judged": 0,
            "agree": 0,
            "settings": "",
        }
        if len(measured):
            nearness = [(order.index(s), -n) for s, n in zip(measured.settings, measured.n, strict=True)]
            best = measured.assign(nearness=nearness).sort_values("nearness", kind="stable")
            best = best.loc[~best.index.duplicated()]
            counts = Counter(best.settings)
            row |= {
                "compared": len(best),
                "six_seeds": int((best.n >= MIN_SEEDS).sum()),
                "judged": int(best.verdict.isin(NUMBER_JUDGED).sum()),
                "agree": int((best.verdict == "agrees").sum()),
                "settings": ", ".join(f"{name} {counts[name]}" for name in order if counts[name]),
            }
        rows.append(row)
    return pd.DataFrame(rows)


def lines(claims: pd.DataFrame, controls: bool = False) -> Iterator[str]:
    """Yield claims as lines of text under the names of their studies, or their readings and controls."""
    for study, table in claims.groupby("study", sort=False):
        yield str(study)
        yield from (f"  {line(row)}" for row in rows_of(table.loc[table.counted != controls]))
        others = table.loc[~table.counted]
        if len(others) and not controls:
            judged = int(others.verdict.isin(JUDGED).sum())
            yield f"  {len(others)} other readings and controls (--controls), {judged} of them with a verdict"


def line(row: Mapping[str, Any]) -> str:
    """Return a claim as a line of text: verdict, claim, what was measured, effect, images, epochs, width.

    Another reading bears the claim's words, and is told from it by what is measured, run or not.
    """
    test = f"; {row['test']}" if row["n"] or not row["counted"] else ""
    found = f": {effect_of(row)}; {made_of(row)}" if row["n"] else ""
    return f"[{word(row)}] {row['section']}: {said(row)}{test}{found}"


def said(row: Mapping[str, Any]) -> str:
    """Return a claim in words, with the margin that is meant by "the same"."""
    margin = row["claimed"] if row["claimed"].startswith("within") else ""
    if margin and is_share_difference(row["test"]):
        margin = claimed_in_points(margin)
    return f"{row['claim']} ({margin})" if margin else row["claim"]


def committed(reference: Path | None = None) -> pd.DataFrame:
    """List the sets of committed results: a row each, with the hours that its trainings took."""
    rows = []
    for folder, found in sets_of(reference or reference_root()):
        results = found.stored
        runs = [result.run for result in results]
        seeds = {run.seed for run in runs if run.seed < found.params.seeds}  # trials have others
        hours = sum(result.info["seconds"] for result in results) / 3600
        rows.append(
            {
                "study": folder.parent.name,
                "set": folder.name,
                "images": listed(images_of(result) for result in results),
                "networks": listed(run.model.name for run in runs),
                "epochs": listed(run.epochs for run in runs),
                "width": listed(f"{run.model.width:g}" for run in runs),
                "seeds": len(seeds),
                "runs": len(runs),
                "hours": hours,
            }
        )
    return pd.DataFrame(rows)


def images_of(result: Result) -> str:
    """Return the label of a result's images with the count of those trained on."""
    return f"{result.info['data']['label']} ({trained_on(result):,})"


def word(row: Mapping[str, Any]) -> str:
    """Return a verdict, told apart where it held on the paper's own images at its setting."""
    return "replicated" if (row["verdict"], row["settings"]) == ("held", "paper") else row["verdict"]


def effect_of(row: Mapping[str, Any], with_n: bool = True) -> str:
    """Return the effect behind a verdict, with its interval, unit and number of seeds."""
    found = effect(row["difference"], row["low"], row["high"], row["test"])
    return f"{found}, n = {int(row['n'])}" if with_n else found


def by_seed(row: Mapping[str, Any], reference: Path | None = None) -> Mapping[int, float]:
    """Return the numbers behind a claim's verdict by seed; none for a set that is not committed."""
    folder = (reference or reference_root()) / row["study"] / row["profile"]
    if not row["profile"] or not (folder / "params.yaml").is_file():
        return {}
    claim = next(claim for claim in STUDIES[row["study"]].claims if claim.name == row["name"])
    found = claim.contrast(results_of(folder))
    return found.by_seed if found else {}


def rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table by column."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def paper_name(study: str) -> str:
    """Return a study's name for readers."""
    label = STUDIES[study].label if study in STUDIES else ""
    return label or study.replace("_", " ").capitalize()
