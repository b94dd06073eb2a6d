"""Arguments and options that several commands of `noiseutils` have."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated

import typer

from noiseutils.errors import clipped

Study = Annotated[str, typer.Argument(help="a study, such as noisy_dropout")]
Profile = Annotated[str, typer.Option(help="smoke, quick, overnight, cifar10, paper, or your own YAML file")]
Changes = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="change a parameter")]
Executor = Annotated[
    str,
    typer.Option(
        help="auto, inline (this process), local (processes), threads (of one GPU), ray (a cluster)"
    ),
]


def up_to(most: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from 1 to `most`; `int` takes other scripts' digits, too, and 1_0."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= most:
            raise typer.BadParameter(f"{clipped(text)} is not a whole number from 1 to {most:,}.")
        return int(text)

    return read


Workers = Annotated[
    int | None,
    typer.Option(parser=up_to(1024), metavar="N", help="runs side by side, of local, threads and ray"),
]
Address = Annotated[
    str | None,
    typer.Option(
        help="of ray: auto, HOST:PORT or ray://HOST:PORT; none: $RAY_ADDRESS, else this machine alone"
    ),
]
Cpus = Annotated[float | None, typer.Option(help="of ray: CPUs a run takes, and its threads; 1 by default")]
Gpus = Annotated[
    float | None,
    typer.Option(help="of ray: share of a GPU a run takes; by default what its memory needs"),
]
