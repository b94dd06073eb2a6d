"""Define the arguments and options that several commands of `noiseutils` share."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated

import typer

from noiseutils.errors import clipped

Study = Annotated[str, typer.Argument(help="study, such as noisy_dropout")]
Profile = Annotated[str, typer.Option(help="smoke, quick, overnight, cifar10, paper, or a YAML file")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="change a parameter of the profile")
]
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
    typer.Option(parser=up_to(1024), metavar="N", help="parallel runs (local, threads, ray)"),
]
Address = Annotated[
    str | None,
    typer.Option(
        help="ray: auto, HOST:PORT or ray://HOST:PORT; default: $RAY_ADDRESS, else this machine alone"
    ),
]
Cpus = Annotated[float | None, typer.Option(help="ray: CPUs a run takes, and its threads; default: 1")]
Gpus = Annotated[
    float | None,
    typer.Option(help="ray: share of a GPU a run takes; default: by the memory that the run needs"),
]
