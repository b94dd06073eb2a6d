"""Declare the images of a run: `Data`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from noiseutils.errors import UserError, clipped, meant
from noiseutils.spec import ImageSize, PositiveInt, Spec

EMBEDDED = ("shapes", "digits")
TORCHVISION = ("cifar10", "cifar100", "mnist", "fashion_mnist")
TREES = ("imagenet", "folder")
Label = Annotated[str, Field(max_length=255)]
Folder = Annotated[str, Field(max_length=4096)]
MOST_SHAPES = 1_000_000  # 3 GB


class Data(Spec):
    """Name the images of a run. `root`, their folder on this machine, is not part of the run's identity."""

    name: Literal[
        "shapes", "digits", "cifar10", "cifar100", "mnist", "fashion_mnist", "imagenet", "folder"
    ] = "shapes"
    label: Label = ""  # where the pixels came from; "" means the name, for a tree its folder's name
    root: Folder | None = None  # folder that holds the files; None: see `noiseutils.data.data_root`
    train_size: PositiveInt | None = None  # images; None: all (shapes: 2,000)
    test_size: PositiveInt | None = None  # images; None: all (shapes: 1,000)
    image_size: ImageSize | None = None  # pixels a side; None: as stored
    streamed: bool = False  # decode an image tree anew each epoch: for one that does not fit in memory

    @model_validator(mode="before")
    @classmethod
    def _label_is_where_pixels_came_from(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("label"):
            values = {**values, "label": _label(values.get("name", "shapes"), values.get("root"))}
        return values

    @field_validator("label", "root")
    @classmethod
    def _a_text_that_can_be_written(cls, text: str | None) -> str | None:
        if text is not None and re.search("[\0\ud800-\udfff]", text):
            raise ValueError("must be text in UTF-8, without the character NUL")
        return text

    @model_validator(mode="after")
    def _shapes_fit_in_memory(self) -> Self:
        for name in ("train_size", "test_size"):
            if self.name == "shapes" and (getattr(self, name) or 0) > MOST_SHAPES:
                raise ValueError(f"{name} of shapes, which are drawn, must be at most {MOST_SHAPES:,}")
        return self

    @model_validator(mode="after")
    def _only_trees_are_streamed(self) -> Self:
        if self.streamed and self.name not in TREES:
            raise ValueError(f"`streamed` is for image trees ({', '.join(TREES)}); {self.name} is read whole")
        if self.streamed and self.image_size is None:
            raise ValueError("`streamed` needs `image_size`: pixels a side, after cutting")
        return self

    def replace(self, **changes: Any) -> Self:
        """Return the same with some fields changed; a label that was derived follows name and root."""
        if self.label == _label(self.name, self.root):
            changes = {"label": "", **changes}
        return super().replace(**changes)

    @classmethod
    def parse(cls, text: str, **sizes: Any) -> Data:
        """Parse `Data` from a command line or a notebook's parameter.

        A known name; the path of a train/test image tree; NAME:PATH for one of torchvision's sets or imagenet
        in a folder of its own; NAME:PATH:LABEL for another set in that layout, which goes by its label.
        """
        known = (*EMBEDDED, *TORCHVISION, "imagenet")
        if text in known:
            return cls(name=text, **sizes)
        name, _, rest = text.partition(":")
        if rest and name in (*TORCHVISION, "imagenet"):
            path, _, label = rest.partition(":")
            return cls(name=name, root=path, label=label or name, **sizes)
        if "/" in text or text.startswith((".", "~")):
            return cls(name="folder", root=text, **sizes)
        raise UserError(
            f"data {clipped(text)} is not known; allowed: {', '.join(known)}, "
            "or the path of a folder with train/<class>/* and test/<class>/* (write ./NAME for one here), or "
            f"NAME:PATH, or NAME:PATH:LABEL for a set of your own in the layout of NAME{meant(text, known)}"
        )


def _label(name: str, root: str | None) -> str:
    """Return the name of a data set: of an image tree the folder's."""
    folder = Path(os.path.expanduser(root)).absolute().name if name in TREES and root else ""
    return folder or name  # the root of all folders has no name
