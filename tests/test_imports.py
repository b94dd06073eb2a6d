"""Imports go one way, from the upper rooms of the package to the lower ones, read from the source."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "noiseutils"

# Bottom first. A room, or a file beside the rooms, imports what stands in lines below its own; in one line
# nobody imports a neighbour. `noiseutils` is the package's own __init__.
LEVELS = (
    ("errors", "stats", "_torchvision_shim", "provenance"),
    ("rng", "spec", "plots", "markdown", "files"),
    ("models",),
    ("noise", "data", "schedules", "corruptions"),
    ("config",),
    ("evaluation",),
    ("training",),
    ("noiseutils",),
    ("sweeps",),
    ("bench",),
    ("studies",),
    ("book", "live", "cli_options", "cli_exits"),
    ("widgets", "cli"),
    ("__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room(module: str) -> str:
    return module.split(".")[min(1, module.count("."))]


def imported(node: ast.AST, folder: str) -> set[str]:
    """Return the modules that an import statement names; `folder` is the package of a relative import."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if not isinstance(node, ast.ImportFrom):
        return set()
    above = folder.split(".")
    above = above[: len(above) - node.level + 1] if node.level else []
    source = ".".join([*above, *([node.module] if node.module else [])])
    names = {f"{source}.{alias.name}" for alias in node.names}
    return {name if name in FILES else source for name in names}


def imports(tree: ast.AST, folder: str) -> set[str]:
    """Return the package's modules that a file imports, in functions too, but for type checkers alone."""
    found = imported(tree, folder)
    children = list(ast.iter_child_nodes(tree))
    if isinstance(tree, ast.If) and ast.unparse(tree.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        children = list(tree.orelse)
    return found.union(*(imports(child, folder) for child in children)) & FILES.keys()


def imports_of(module: str, path: Path) -> set[str]:
    folder = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return imports(ast.parse(path.read_text(encoding="utf-8")), folder) - {module}


IMPORTS = {module: imports_of(module, path) for module, path in FILES.items()}


def circles(edges: dict[str, set[str]]) -> set[frozenset[str]]:
    """Return the sets of modules that reach one another."""
    reached = {module: set(others) for module, others in edges.items()}
    for middle in edges:
        for module in edges:
            if middle in reached[module]:
                reached[module] |= reached[middle]
    return {
        frozenset(other for other in edges if other in reached[module] and module in reached[other])
        for module in edges
        if module in reached[module]
    }


def test_every_room_has_its_level():
    assert {room(module) for module in FILES} == LEVEL.keys()


def test_imports_go_down_only():
    upward = {
        (room(module), room(other)): f"{module} imports {other}"
        for module, others in IMPORTS.items()
        for other in others
        if room(module) != room(other) and LEVEL[room(other)] >= LEVEL[room(module)]
    }
    assert upward == {}


def test_no_files_of_a_room_import_one_another_in_a_circle():
    """Circles across rooms would go up somewhere; the test above shows those."""
    within = {
        module: {other for other in others if room(other) == room(module)}
        for module, others in IMPORTS.items()
    }
    assert circles(within) == set()


def test_circles_and_hidden_imports_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == {frozenset("abc")}
    source = "if TYPE_CHECKING:\n    import noiseutils.cli\ndef f():\n    from ..errors import UserError\n"
    assert imports(ast.parse(source), "noiseutils.models") == {"noiseutils.errors"}
