"""Parameters of a study: read strictly, from a profile or from a notebook."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, field_validator

from noiseutils.config import Data
from noiseutils.errors import clipped, one_of
from noiseutils.models import MODELS
from noiseutils.spec import ImageSize, Positive, PositiveInt, Spec, explain

Positives = Annotated[tuple[Positive, ...], Field(strict=False, min_length=1, max_length=100)]
Queries = Annotated[int, Field(ge=1, le=1_000_000)]
Sigmas = Annotated[
    tuple[Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)], ...],
    Field(strict=False, max_length=100),
]
Looks = Annotated[int, Field(ge=1, le=20)]
Seeds = Annotated[int, Field(ge=1, le=1000)]
Sizes255 = Annotated[tuple[Annotated[float, Field(gt=0, le=255)], ...], Field(strict=False, max_length=100)]


class StudyParams(Spec):
    """A profile's values, flat, so that papermill can pass them. `study` and `profile` name the folder."""

    study: str
    profile: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=100)] = "smoke"

    @field_validator("*")
    @classmethod
    def _each_value_once(cls, value: Any) -> Any:
        """Twice the same value is a slip, and trainings that are named again and again."""
        if isinstance(value, tuple) and len(set(value)) < len(value):
            twice = next(item for number, item in enumerate(value) if item in value[:number])
            raise ValueError(f"the values must differ, and {clipped(twice)} is there twice")
        return value

    @classmethod
    def read(cls, values: Mapping[str, Any], where: str) -> Self:
        """Check parameters; raise a UserError that names the key, the value and what is allowed."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise explain(error, where, cls) from None

    @classmethod
    def from_notebook(cls, names: Mapping[str, Any]) -> Self:
        """Read the parameters among a notebook's `globals()`.

        papermill passes unknown keys on with a mere warning: the cell that it injects is read for them here.
        """
        values = {name: names[name] for name in cls.model_fields if name in names}
        for source in names.get("In", ()):
            if source.startswith("# Parameters\n"):
                assigned = [n.id for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Name)]
                values |= {
                    name: names.get(name) for name in assigned if name not in ("true", "false", "null")
                }
        return cls.read(values, "the notebook's parameters")

    def are_default(self, names: Iterable[str]) -> bool:
        """Tell whether the parameters of these names have their default values: the paper's, as read here."""
        fields = type(self).model_fields
        return all(getattr(self, name) == fields[name].get_default() for name in names)


def known_data(text: str) -> str:
    """Check that a text is a known data set, or reads as a path."""
    Data.parse(text)
    return text


def known_model(name: str) -> str:
    """Check that a name is a key of MODELS."""
    if name not in MODELS:
        raise one_of("model", name, MODELS)
    return name


class OneSetParams(StudyParams):
    """Parameters of a study on one set of images."""

    data: str = "cifar10"
    train_size: PositiveInt | None = None
    test_size: PositiveInt | None = None
    image_size: ImageSize | None = None

    _known_data = field_validator("data")(known_data)


def data_of(params: OneSetParams) -> Data:
    """Return the images of a profile."""
    sizes = {name: getattr(params, name) for name in ("train_size", "test_size", "image_size")}
    return Data.parse(params.data, **sizes)
