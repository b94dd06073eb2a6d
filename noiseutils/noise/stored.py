"""A handle's state in a checkpoint, as tensors, and the checks before it is taken back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from noiseutils.errors import UserError
from noiseutils.noise.site import Site
from noiseutils.rng import SiteStreams, generator

HEADER = "noise"  # JSON as bytes: the kind of noise, its sites, and the shape of every other entry

BySite = dict[str, dict[str, Tensor]]


def stored_state(
    kind: str, streams: Mapping[str, SiteStreams], sites: Mapping[str, Site]
) -> dict[str, Tensor]:
    """Return the positions of all generators and the memories of all sites, with a header."""
    found = {
        f"{site}/random/{purpose}": source.get_state()
        for site, of_site in streams.items()
        for purpose, source in of_site.generators.items()
    }
    for name, site in sites.items():
        found |= {f"{name}/memory/{key}": value for key, value in site.state().items()}
    shapes = {key: list(value.shape) for key, value in found.items()}
    header = json.dumps({"kind": kind, "sites": list(sites), "shapes": shapes})
    return {HEADER: torch.tensor(list(header.encode()), dtype=torch.uint8)} | found


def checked_state(
    kind: str, state: Mapping[str, Tensor], sites: Mapping[str, Site], device: torch.device
) -> tuple[BySite, BySite]:
    """Return the generators' positions and the memories in a state, both by site.

    Raises UserError for what `stored_state` did not return, and for other noise, sites or shapes.
    """
    header = _header(state)
    if header["kind"] != kind:
        raise UserError(f"the state is of noise {header['kind']!r}, not of {kind!r}")
    if header["sites"] != list(sites):
        raise UserError(
            f"the state is of noise after {', '.join(header['sites'])}; this noise: after {', '.join(sites)}"
        )
    found = {key: list(value.shape) for key, value in state.items() if key != HEADER}
    shapes = header["shapes"]
    if wrong := sorted(key for key in {*found, *shapes} if found.get(key) != shapes.get(key)):
        key = wrong[0]
        has, had = (f"of shape {each[key]}" if key in each else "not there" for each in (found, shapes))
        raise UserError(f"the state is not as it was stored: {key!r} is {has} and was {had}")
    positions: BySite = {name: {} for name in sites}
    memories: BySite = {name: {} for name in sites}
    for key, value in state.items():
        if key != HEADER:
            site, part, purpose = key.rsplit("/", 2)
            (positions if part == "random" else memories)[site][purpose] = value
    size = generator(0, "size", device).get_state().shape
    for name, site in sites.items():
        if any(position.shape != size for position in positions[name].values()):
            raise UserError(f"the state's draws at {name!r} were made on a device other than {device}")
        site.check_state(memories[name])
    return positions, memories


def _header(state: Any) -> dict[str, Any]:
    try:
        return json.loads(bytes(state[HEADER].tolist()))
    except (KeyError, TypeError, AttributeError, ValueError):
        raise UserError(
            f"no state of attached noise: it needs an entry {HEADER!r}, as Handle.state() returns it"
        ) from None
