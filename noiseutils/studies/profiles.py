"""Profiles: params/<study>/<profile>.yaml, read strictly, with `--set` on top."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from yaml.composer import ComposerError

from noiseutils.errors import UserError, clipped, one_line, one_of
from noiseutils.files import Unusable, read_bytes
from noiseutils.provenance import shipped
from noiseutils.studies import RENDERED
from noiseutils.studies.params import StudyParams

P = TypeVar("P", bound=StudyParams)


# the loader's own errors, and what broken dates, numbers, keys and nesting make of it
NOT_YAML = (yaml.YAMLError, ValueError, TypeError, RecursionError)
LONGEST = 100_000  # characters of YAML; the reader takes about 10 µs for each
HOURS = 10_000  # of the longest budget


class _Loader(yaml.SafeLoader):
    """YAML as people mean it: `1e-3` is a number (YAML 1.1 wants `1.0e-3`), a repeated key is an error.

    So is what YAML 1.1 reads in base 8 or 60: `010` as 8, `1:30` as 90. papermill's `-p` reads 10 and a text,
    its `-f` what YAML does. Aliases, merges and tags are errors, too: a few lines of the first two stand for
    gigabytes, and the values of a profile need none.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise _refused(f"the alias *{one_line(event.anchor)}: write the value itself", event)
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            raise _refused(f"the anchor &{one_line(event.anchor)}: leave it out", event)
        if (tag := getattr(event, "tag", None)) is not None:
            raise _refused(f"the tag {one_line(tag)}: leave it out", event)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key.start_mark)
            if key.tag == "tag:yaml.org,2002:merge":
                raise _refused("the merge <<: write its keys out", key)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {clipped(key.value)} stands twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        return super().construct_yaml_int(_in_base_10(node))

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        return super().construct_yaml_float(_in_base_10(node))


def _refused(what: str, at: yaml.Node | yaml.Event) -> yaml.YAMLError:
    """Return the error for a part of YAML that no profile needs."""
    return ComposerError(None, None, f"YAML here may not contain {what}", at.start_mark)


def _in_base_10(node: yaml.ScalarNode) -> yaml.ScalarNode:
    """Return a number as it is. Raises yaml's error for one that YAML 1.1 reads in base 8 or 60."""
    sixty = ":" in node.value
    if sixty or (re.match(r"[-+]?0[0-9_]", node.value) and not re.search("[.eE]", node.value)):
        raise yaml.constructor.ConstructorError(
            None,
            None,
            f"{clipped(node.value)} is a number in base {60 if sixty else 8} in YAML: write a number in "
            "base 10, or a text in quotes",
            node.start_mark,
        )
    return node


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9][0-9_]*)(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def study_params(study: str, profile: str, changes: Sequence[str] = ()) -> StudyParams:
    """Read the parameters of a profile of a study, or of the live lab, by name; see `read_profile`."""
    if study not in RENDERED:
        raise one_of("study", study, RENDERED)
    return read_profile(RENDERED[study].Params, study, profile, changes)


def read_profile(kind: type[P], study: str, profile: str, changes: Sequence[str] = ()) -> P:
    """Read and check the parameters of a study.

    profile: the name of a file in params/<study>/, or the path of a YAML file of one's own.
    changes: "key=value" texts, values in YAML.
    Raises UserError naming file, key, value and what is allowed.
    """
    path = profile_path(study, profile)
    values = read_yaml(path)
    owner = values.get("study", study)
    if owner != study:
        raise UserError(f"{path}: these are parameters of the study {clipped(owner)}, not of {study!r}")
    values.setdefault("profile", path.stem)
    where = str(path)
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key:
            raise UserError(f"--set {clipped(change)}: write KEY=VALUE, such as --set seeds=3")
        try:
            values[key.strip()] = _load(text)
        except NOT_YAML as error:
            raise UserError(f"--set {clipped(change)}: the value is not YAML: {_brief(error)}") from None
        shown = [f"--set {one_line(c)}" for c in changes[:5]]
        where = f"{path} with {' '.join(shown)}{' …' if len(changes) > len(shown) else ''}"
    return kind.read(values, where)


def profile_path(study: str, profile: str) -> Path:
    """Return the YAML file of a profile: a name in params/<study>/ or a path."""
    folder = shipped("params") / study
    own = profile.endswith((".yaml", ".yml"))
    path = Path(os.path.expanduser(profile)) if own else folder / f"{profile}.yaml"
    if not os.path.isfile(path):  # false, too, for a name longer than the file system takes
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml"))) or f"none: {folder} is empty"
        raise UserError(
            f"no profile {clipped(profile)}: looked for {one_line(path, 300)}; profiles of {study}: {known}; "
            "or a .yaml file"
        )
    return path


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the mapping in a YAML file."""
    try:
        values = _load(read_bytes(path).decode())
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8") from None
    except NOT_YAML as error:
        raise UserError(f"{path}: not valid YAML: {_brief(error)}") from None
    except FileNotFoundError:
        raise UserError(f"{path}: No such file or directory") from None
    except Unusable as damage:
        raise UserError(str(damage)) from None
    if values is None:
        raise UserError(
            f"{path}: the file is empty; it needs `key: value` lines, see {shipped('params')}/*/smoke.yaml"
        )
    if not isinstance(values, dict):
        raise UserError(f"{path}: must hold `key: value` lines, holds a {type(values).__name__}")
    if bad := [key for key in values if not isinstance(key, str)]:
        raise UserError(f"{path}: keys must be words, got {clipped(bad[0])}")
    return values


def _load(text: str) -> Any:
    """Return what a YAML text means. Raises one of `NOT_YAML` for what is none, or more than a profile."""
    if len(text) > LONGEST:
        raise ValueError(f"{len(text):,} characters; allowed: up to {LONGEST:,}")
    return yaml.load(text, _Loader)


def _brief(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return place + one_line((getattr(error, "problem", None) or str(error)).strip(), 300)


def seconds(text: str) -> float:
    """Read the seconds in `90`, `90s`, `9m` or `1.5h`."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([smh]?)", text.strip())
    if not found or float(found[1]) == 0:
        raise UserError(f"budget {clipped(text)} is not a time; write 90s, 9m or 1.5h")
    wanted = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]
    if wanted > 3600 * HOURS:
        raise UserError(f"budget {clipped(text)} is too long; allowed: up to {HOURS}h")
    return wanted
