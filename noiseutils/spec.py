"""Base of every part of a configuration: a small frozen value, checked strictly, with an identity.

Errors say the key, the value it had and what is allowed, all of them on one screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from noiseutils.errors import UserError, meant

Probability = Annotated[float, Field(ge=0, lt=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Names = Annotated[tuple[str, ...], Field(strict=False)]  # YAML and JSON write tuples as lists
Levels = Annotated[tuple[NonNegative, ...], Field(strict=False)]


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


# named even by default: the kind of a variant, and what a run made before the field was there did otherwise
ALWAYS_NAMED = {"kind", "weight_every"}


def identity(spec: Spec) -> dict[str, Any]:
    """Return what determines the result: fields that differ from their default, and those of `ALWAYS_NAMED`.

    Leaving defaults out lets a later version add a field (default: as before) and still find old results.
    """
    found = {}
    for name, field in type(spec).model_fields.items():
        value = getattr(spec, name)
        if name == "root" or (value == field.default and name not in ALWAYS_NAMED):
            continue
        if isinstance(value, Spec):
            value = identity(value)
            if isinstance(field.default, Spec) and value == identity(field.default):
                continue  # they differ in what does not determine the result
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
    return f"{value[0]:g} … {value[-1]:g}" if isinstance(value, tuple) and value else str(value)


def explain(error: ValidationError, where: str, kind: type[BaseModel]) -> UserError:
    """Turn a validation error into one screen: per problem the key, the value it had and what is allowed.

    kind: of the value that could not be made; its fields are what an unknown key is compared with.
    """
    lines = []
    for problem in error.errors():
        *path, last = problem["loc"] or ("(all)",)
        key = ".".join(map(str, (*path, last)))
        if problem["type"] == "extra_forbidden":
            names = _fields(kind, path)
            lines.append(f"  {key}: unknown key{meant(last, names) or '; allowed: ' + ', '.join(names)}")
            continue
        message = problem["msg"].removeprefix("Value error, ")
        got = "" if problem["type"] == "missing" else f" (got {_clip(problem['input'])})"
        lines.append(f"  {key}: {message}{got}")
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


def _clip(value: object, width: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= width else text[: width - 1] + "…"
