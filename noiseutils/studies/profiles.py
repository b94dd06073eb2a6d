"""Profiles: params/<study>/<profile>.yaml, read strictly, with `--set` on top."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from noiseutils.errors import UserError, one_of
from noiseutils.provenance import shipped
from noiseutils.studies import RENDERED
from noiseutils.studies.params import StudyParams

P = TypeVar("P", bound=StudyParams)


# the loader's own errors, and what broken dates, numbers, keys and nesting make of it
NOT_YAML = (yaml.YAMLError, ValueError, TypeError, RecursionError)


class _Loader(yaml.SafeLoader):
    """YAML as people mean it: `1e-3` is a number (YAML 1.1 wants `1.0e-3`), a repeated key is an error.

    So is what YAML 1.1 reads in base 8 or 60: `010` as 8, `1:30` as 90. papermill's `-p` reads 10 and a text,
    its `-f` what YAML does.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        return super().construct_yaml_int(_in_base_10(node))

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        return super().construct_yaml_float(_in_base_10(node))


def _in_base_10(node: yaml.ScalarNode) -> yaml.ScalarNode:
    """Return a number as it is. Raises yaml's error for one that YAML 1.1 reads in base 8 or 60."""
    if ":" in node.value or (re.match(r"[-+]?0[0-9_]", node.value) and not re.search("[.eE]", node.value)):
        raise yaml.constructor.ConstructorError(
            None,
            None,
            f"{node.value!r} is a number in base {60 if ':' in node.value else 8} in YAML: write a number in "
            "base 10, or a text in quotes",
            node.start_mark,
        )
    return node


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
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
        raise UserError(f"{path}: these are parameters of the study {owner!r}, not of {study!r}")
    values.setdefault("profile", path.stem)
    where = str(path)
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key:
            raise UserError(f"--set {change!r}: write KEY=VALUE, such as --set seeds=3")
        try:
            values[key.strip()] = yaml.load(text, _Loader)
        except NOT_YAML as error:
            raise UserError(f"--set {change!r}: the value is not YAML: {_brief(error)}") from None
        where = f"{path} with {' '.join(f'--set {c}' for c in changes)}"
    return kind.read(values, where)


def profile_path(study: str, profile: str) -> Path:
    """Return the YAML file of a profile: a name in params/<study>/ or a path."""
    folder = shipped("params") / study
    path = Path(profile).expanduser() if profile.endswith((".yaml", ".yml")) else folder / f"{profile}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml"))) or f"none: {folder} is empty"
        raise UserError(
            f"no profile {profile!r}: looked for {path}; profiles of {study}: {known}; or a .yaml file"
        )
    return path


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the mapping in a YAML file."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8") from None
    except NOT_YAML as error:
        raise UserError(f"{path}: not valid YAML: {_brief(error)}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if values is None:
        raise UserError(
            f"{path}: the file is empty; it needs `key: value` lines, see {shipped('params')}/*/smoke.yaml"
        )
    if not isinstance(values, dict):
        raise UserError(f"{path}: must hold `key: value` lines, holds a {type(values).__name__}")
    if bad := [key for key in values if not isinstance(key, str)]:
        raise UserError(f"{path}: keys must be words, got {bad[0]!r}")
    return values


def _brief(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return place + (getattr(error, "problem", None) or str(error)).strip()


def seconds(text: str) -> float:
    """Read the seconds in `90`, `90s`, `9m` or `1.5h`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if not found or float(found[1]) == 0:
        raise UserError(f"budget {text!r} is not a time; write 90s, 9m or 1.5h")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]
