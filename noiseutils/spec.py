"""Base of every part of a configuration: a small frozen value, checked strictly, with an identity.

Errors say the key, the value it had and what is allowed, all of them on one screen.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from noiseutils.errors import UserError

Probability = Annotated[float, Field(ge=0, lt=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Names = Annotated[tuple[str, ...], Field(strict=False)]  # YAML and JSON write tuples as lists
Levels = Annotated[tuple[NonNegative, ...], Field(strict=False)]


class Spec(BaseModel):
    """A frozen value: strict types, no unknown keys."""

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


def explain(error: ValidationError, where: str) -> UserError:
    """Turn a validation error into one screen: per problem the key, the value it had and what is allowed."""
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"]) or "(all)"
        if problem["type"] == "extra_forbidden":
            lines.append(f"  {key}: unknown key")
            continue
        message = problem["msg"].removeprefix("Value error, ")
        got = "" if problem["type"] == "missing" else f" (got {_clip(problem['input'])})"
        lines.append(f"  {key}: {message}{got}")
    return UserError(f"{where}:\n" + "\n".join(lines))


def _clip(value: object, width: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= width else text[: width - 1] + "…"
