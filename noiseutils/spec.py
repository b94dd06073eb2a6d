"""Base of every part of a configuration: a small frozen value, checked strictly, with an identity.

Errors say the key, the value it had and what is allowed, all of them on one screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from noiseutils.errors import UserError, clipped, meant, one_line

# Upper bounds are beyond every honest use: a slip of the keyboard ends in a sentence that names the range,
# not in an overflow, hours of work or a full memory.
LARGEST_NUMBER = 1e30  # float32 goes to 3.4e38
Probability = Annotated[float, Field(ge=0, lt=1)]
NonNegative = Annotated[float, Field(ge=0, le=LARGEST_NUMBER, allow_inf_nan=False)]
Finite = Annotated[float, Field(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, le=LARGEST_NUMBER, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=10**9)]
PositiveInt = Annotated[int, Field(ge=1, le=10**9)]
Epochs = Annotated[int, Field(ge=1, le=100_000)]
BatchSize = Annotated[int, Field(ge=1, le=2**20)]
LARGEST_SIDE = 4096  # pixels of the largest image
ImageSize = Annotated[int, Field(ge=1, le=LARGEST_SIDE)]
THINNEST, WIDEST = 1e-6, 16.0
Width = Annotated[float, Field(ge=THINNEST, le=WIDEST)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Names = Annotated[tuple[str, ...], Field(strict=False, max_length=1000)]  # YAML writes tuples as lists
Level = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
Levels = Annotated[tuple[Level, ...], Field(strict=False, max_length=1000)]


class _Explaining(type(BaseModel)):
    """Metaclass of `Spec`: a value that cannot be made is a UserError, not pydantic's own error.

    An `__init__` of `Spec` would do so within a larger value, too, whose error then has no path to the key.
    """

    if not TYPE_CHECKING:  # a type checker is to see the fields as arguments

        def __call__(cls, *args: Any, **values: Any) -> Any:
            try:
                return super().__call__(*args, **values)
            except ValidationError as error:
                raise explain(error, cls.__name__, cls) from None


class Spec(BaseModel, metaclass=_Explaining):
    """A frozen value: strict types, no unknown keys. Raises UserError for what cannot be."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)

    def replace(self, **changes: Any) -> Self:
        """Return the same value with some fields changed, checked again."""
        return type(self)(**{**dict(self), **changes})

    @cached_property
    def _identity(self) -> dict[str, Any]:
        """`identity`, kept: the runs of a grid share their parts, and each names them in its key."""
        return identity(self)


SHOWN_PROBLEMS = 10  # problems of one value that an error lists
# named even by default: the kind of a variant, and what a run made before the field was there did otherwise
ALWAYS_NAMED = {"kind", "weight_every"}


def identity(spec: Spec) -> dict[str, Any]:
    """Return what determines the result: fields that differ from their default, and those of `ALWAYS_NAMED`.

    Leaving defaults out lets a later version add a field (default: as before) and still find old results.
    """
    found = {}
    for name, field in type(spec).__pydantic_fields__.items():
        value = getattr(spec, name)
        if name == "root" or (value is field.default and name not in ALWAYS_NAMED):
            continue
        if isinstance(value, Spec):  # what two of them may differ in need not determine the result
            value = value._identity
            default = field.default._identity if isinstance(field.default, Spec) else None
        else:
            default = field.default
        if name in ALWAYS_NAMED or value != default:
            found[name] = value
    return found


def short(spec: Spec) -> str:
    """Describe a value in a few words: its kind, and what is not as by default."""
    parts = [
        f"{name} {_number(value)}"
        for name, value in spec
        if name != "kind" and value != type(spec).model_fields[name].default
    ]
    kind = getattr(spec, "kind", type(spec).__name__)
    return f"{kind} ({', '.join(parts)})" if parts else kind


def _number(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return f"{_number(value[0])} … {_number(value[-1])}" if isinstance(value, tuple) and value else str(value)


def explain(error: ValidationError, where: str, kind: type[BaseModel]) -> UserError:
    """Turn a validation error into one screen: per problem the key, the value it had and what is allowed.

    kind: of the value that could not be made; its fields are what an unknown key is compared with.
    """
    problems, lines = error.errors(), []
    for problem in problems[:SHOWN_PROBLEMS]:
        *path, last = problem["loc"] or ("(all)",)
        key = ".".join(map(one_line, (*path, last)))
        if problem["type"] == "extra_forbidden":
            names = _fields(kind, path)
            lines.append(f"  {key}: unknown key{meant(last, names) or '; allowed: ' + ', '.join(names)}")
            continue
        message = problem["msg"].removeprefix("Value error, ")
        got = "" if problem["type"] == "missing" else f" (got {clipped(problem['input'])})"
        lines.append(f"  {key}: {message}{got}")
    if len(problems) > SHOWN_PROBLEMS:
        lines.append(f"  and {len(problems) - SHOWN_PROBLEMS:,} more")
    return UserError(f"{where}:\n" + "\n".join(lines))


def _fields(kind: type[BaseModel], path: Sequence[Any]) -> list[str]:
    """Return the names of the fields at a path of keys and kinds within a value."""
    kinds = [kind]
    for part in path:
        fields = [k.model_fields[part] for k in kinds if part in k.model_fields]
        within = [spec for field in fields for spec in _specs(field.annotation)]
        kinds = within or [
            k for k in kinds if "kind" in k.model_fields and k.model_fields["kind"].default == part
        ]
    return list(dict.fromkeys(name for k in kinds for name in k.model_fields))


def _specs(annotation: object) -> list[type[BaseModel]]:
    """Return the specs that a type, such as a union, is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [spec for part in get_args(annotation) for spec in _specs(part)]
