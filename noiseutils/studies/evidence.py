"""The best evidence for every claim of every paper, from the committed results: what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from noiseutils.provenance import CHECKOUT
from noiseutils.stats import MIN_SEEDS, SETTINGS, Interval
from noiseutils.studies import STUDIES
from noiseutils.studies.profiles import read_yaml
from noiseutils.sweeps.store import Store

REFERENCE = CHECKOUT / "outputs" / "reference"
JUDGED = ("held", "the opposite", "not shown")  # verdicts; anything else says why there is none


def evidence(studies: Iterable[str] = STUDIES, reference: Path = REFERENCE) -> pd.DataFrame:
    """Judge every claim by each profile under outputs/reference, and keep the best evidence for each.

    Returns a row a counted claim: study, profile and the columns of `registry.judge`. The best is that with
    a verdict, then that closest to the paper's setting, then that of most seeds.
    """
    rows = []
    for name in studies:
        study = STUDIES[name]
        if not study.claims:
            continue
        without_results = study.results(study.Params.read({}, "its defaults"), [])
        folders = sorted(path.parent for path in (reference / name).glob("*/params.yaml"))
        tables = [study.verdicts(without_results).assign(profile=""), *map(verdicts_of, folders)]
        known = pd.concat(tables, ignore_index=True)
        rows.append(_best(known.loc[known.counted]).assign(study=name))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def verdicts_of(folder: Path) -> pd.DataFrame:
    """Judge the claims of a study by one folder of committed results; trains and renders nothing."""
    study = STUDIES[folder.parent.name]
    params = study.Params.read(read_yaml(folder / "params.yaml"), str(folder / "params.yaml"))
    store = Store(folder / "runs")
    found = [result for run in study.runs_known(params, store) if (result := store.load(run)) is not None]
    results = study.results(params, found, study.answers(params, store))
    return study.verdicts(results).assign(profile=folder.name)


def _best(known: pd.DataFrame) -> pd.DataFrame:
    order = list(SETTINGS)
    ranked = known.assign(
        judged=known.verdict.isin(JUDGED),
        nearness=[
            -order.index(s) if s in order and n else -len(order)
            for s, n in zip(known.settings, known.n, strict=True)
        ],
    ).sort_values(["judged", "nearness", "n"], ascending=False, kind="stable")
    best = ranked.drop_duplicates("name")
    names = list(dict.fromkeys(known.name))  # as the registry has them
    return best.set_index("name").loc[names].reset_index().drop(columns=["judged", "nearness"])


def summary(claims: pd.DataFrame) -> pd.DataFrame:
    """Count the claims of each study: in all, with a verdict from real images, and how each of those went.

    replicated: held on the paper's own images at its setting; `held` counts the others that held.
    """
    rows = []
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


def lines(claims: pd.DataFrame) -> Iterator[str]:
    """Yield claims as lines of text, under the names of their studies."""
    study = ""
    for row in claims.to_dict("records"):
        if row["study"] != study:
            study = row["study"]
            yield study
        yield f"  {line(row)}"


def line(row: Mapping[str, Any]) -> str:
    """Return one claim as a line of text: verdict, claim, effect with interval, n, images, epochs, width."""
    found = ""
    if row["n"]:
        effect = Interval(row["difference"], row["low"], row["high"], int(row["n"]))
        found = f": {effect.format(4)}; {row['images']}, {row['epochs']} epochs, width {row['width']}"
    return f"[{row['verdict']}] {row['section']}: {row['claim']} ({row['claimed']}){found}"
