"""Texts of the training lab: a noise's strength, a training's settings, the numbers under the controls."""

from __future__ import annotations

import html

from noiseutils.live.record import Record
from noiseutils.live.session import Session
from noiseutils.studies.live_lab import Params, usual_places
from noiseutils.widgets.view import broken


def setting(params: Params) -> str:
    """Write the strength with its symbol; nothing for no noise."""
    return f"{params.kind.symbol} = {params.strength:.4g}" if params.kind.symbol else ""


def described(params: Params) -> str:
    """Describe a training in a few words."""
    title = params.kind.title.split(":")[0].split(" (")[0]
    strength = f", {setting(params)}" if params.kind.symbol else ""
    where = f", after {', '.join(params.after or usual_places(params.model))}" if params.kind.sites else ""
    alone = "" if params.compare or params.noise == "none" else ", without a baseline"
    others = "".join(f", compared with {text}" for text in params.beside)
    return f"{title}{strength}{where}{alone}{others}, {params.model} on {params.data}, seed {params.seed}"


def waiting(chosen: Params, trained: Params) -> str:
    """Write, as HTML, that the controls are set to another training than the one that runs."""
    text = f"Set for the next training: {described(chosen)}. In training: {described(trained)}. "
    text += "Restart ends it and begins the next."
    return f'<p class="nu-waiting" role="status">{html.escape(text)}</p>'


def headline(session: Session, record: Record) -> str:
    """Write, as HTML, the numbers of the last step, its noise and rate, and what drawing costs."""
    share = 100 * session.drawing / session.seconds if session.seconds else 0.0
    p = session.params  # of the last step
    strength = f"{setting(p)} ({p.kind.unit}), " if p.kind.symbol else ""
    sites = next((probe.sites for probe in record.last.values()), ())
    where = f"inserted after {', '.join(sites)}, " if sites else ""
    text = f"{strength}{where}learning rate {p.learning_rate:.4g}; drawing takes {share:.0f} %"
    small = f'<div class="nu-small">{html.escape(text)}</div>'
    return f"{record.headline()}{small}{broken(session.diverged)}"
