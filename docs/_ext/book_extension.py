"""Sphinx extension of the book: equations without scripts, docstrings in plain text, readable signatures."""

from __future__ import annotations

import html
import inspect
import re
import typing
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from sphinx.application import Sphinx
from sphinx.util import logging

from noiseutils.book.mathml import mathml

BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most", "min_length": "items: at least"}
LONGEST = 40  # characters of a default value in a signature

log = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register all of it with Sphinx."""
    app.add_html_math_renderer("mathml", (_inline_math, None), (_block_math, None))
    app.connect("autodoc-process-docstring", _docstring)
    app.connect("autodoc-process-signature", _signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def anchor(title: str) -> str:
    """Return what JupyterLab calls a heading, so that links within notebooks lead there on the site, too."""
    return title.strip().replace(" ", "-")


def _inline_math(translator: Any, node: nodes.Element) -> None:
    _draw(translator, node, "inline")


def _block_math(translator: Any, node: nodes.Element) -> None:
    _draw(translator, node, "block")


def _draw(translator: Any, node: nodes.Element, display: str) -> None:
    tex = node.astext()
    try:
        translator.body.append(mathml(tex, display))
    except ValueError as error:
        log.warning("equation %r: %s", tex.strip(), error, location=node)
        translator.body.append(f"<code>{html.escape(tex)}</code>")
    raise nodes.SkipNode


def _docstring(_app: Sphinx, what: str, _name: str, obj: Any, _options: Any, lines: list[str]) -> None:
    """Turn a docstring in plain text into reStructuredText; a model's fields follow in a list."""
    if what == "pydantic" or (inspect.isclass(obj) and issubclass(obj, BaseModel)):
        if (obj.__doc__ or "").strip() == "":
            lines.clear()
        lines[:] = [*_as_rst(lines), "", *_fields(obj)]
    else:
        lines[:] = _as_rst(lines)


def _as_rst(lines: list[str]) -> list[str]:
    """Return plain text as reStructuredText: `code` as code, indented lines as they are, no other markup."""
    found: list[str] = []
    for line in lines:
        text = line.strip()
        if not text:
            found.append("")
        elif line.startswith("    "):
            if not found or not found[-1].startswith("    "):
                found += ["", "::", ""]
            found.append(line)
        else:
            if found and found[-1].startswith("    "):
                found.append("")
            found.append(_escaped(text))
    return found


def _escaped(text: str) -> str:
    parts = re.split(r"`+([^`]+)`+", text)
    said = [re.sub(r"([\\*|_])", r"\\\1", part) for part in parts]
    said[1::2] = [f"``{part}``" for part in parts[1::2]]
    return "".join(said)


def _fields(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        bounds = ", ".join(_bounds(field.metadata))
        default = "" if field.is_required() else f" = {_value(field)}"
        yield f"* **{name}**: ``{readable(field.annotation)}{default}``" + (f" ({bounds})" if bounds else "")


def _bounds(metadata: list[Any]) -> Iterator[str]:
    for bound in metadata:
        for name, words in BOUNDS.items():
            if getattr(bound, name, None) is not None:
                yield f"{words} {getattr(bound, name)}"


def _value(field: Any) -> str:
    value = field.default if field.default is not PydanticUndefined else field.default_factory()
    return f"{type(value).__name__}()" if isinstance(value, BaseModel) else _short(value)


def _signature(
    _app: Sphinx, what: str, _name: str, obj: Any, _options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Return a signature with its types by name: no `Annotated`, no module paths."""
    if what not in ("function", "method", "class") or signature is None:
        return signature, returns
    if inspect.isclass(obj) and issubclass(obj, BaseModel):
        return f"({', '.join(_arguments(obj))})", None
    try:
        hints = typing.get_type_hints(obj.__init__ if inspect.isclass(obj) else obj)
        known = inspect.signature(obj)
    except (NameError, TypeError, ValueError):  # names for type checkers alone, or nothing to ask
        return signature, returns
    parameters = []
    for parameter in known.parameters.values():
        if parameter.name in hints:
            parameter = parameter.replace(annotation=_Said(readable(hints[parameter.name])))
        if parameter.default is not parameter.empty:
            parameter = parameter.replace(default=_Said(_short(parameter.default)))
        if parameter.name != "self":
            parameters.append(parameter)
    result = readable(hints["return"]) if "return" in hints and not inspect.isclass(obj) else None
    shown = known.replace(parameters=parameters, return_annotation=inspect.Signature.empty)
    return str(shown), result


def _short(default: Any) -> str:
    text = getattr(default, "__name__", None) or repr(default)
    return text if len(text) <= LONGEST else "…"


class _Said:
    """An annotation that is printed as it reads."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _arguments(model: type[BaseModel]) -> Iterator[str]:
    yield "*"
    for name, field in model.model_fields.items():
        yield f"{name}: {readable(field.annotation)}" + ("" if field.is_required() else f" = {_value(field)}")


def readable(hint: Any) -> str:
    """Return a type as a reader writes it: `float`, `'dropped' | 'all'`, `list[Tensor]`; by name alone."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return readable(arguments[0])
    if origin is typing.Literal:
        return " | ".join(map(repr, arguments))
    if origin is typing.Union or type(hint).__name__ == "UnionType":
        return " | ".join(map(readable, arguments))
    if hint is type(None):
        return "None"
    if hint is Ellipsis:
        return "..."
    if isinstance(hint, list):
        return f"[{', '.join(map(readable, hint))}]"
    if arguments:
        name = getattr(hint, "__name__", None) or str(origin)
        return f"{name}[{', '.join(map(readable, arguments))}]"
    return getattr(hint, "__name__", None) or str(hint).rpartition(".")[2]
