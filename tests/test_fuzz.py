"""Generated bad input: everything that is read from outside gives a value or a UserError, in time and memory.

Thirty inputs a test, of whole commands ten. `NOISEUTILS_FUZZ=500 pytest tests/test_fuzz.py` takes 500, and
others each time.
"""

import io
import math
import os
import subprocess
import sys
from multiprocessing import Pipe

import fuzz_child
import numpy as np
import pytest
import yaml
from fuzz_child import PARTS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from noiseutils.models import MODELS
from noiseutils.provenance import shipped
from noiseutils.studies import RENDERED

EXAMPLES = int(os.environ.get("NOISEUTILS_FUZZ", "30"))
LONG = "NOISEUTILS_FUZZ" in os.environ
pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200 if LONG else 900)]
fuzzed = settings(
    max_examples=EXAMPLES,
    derandomize=not LONG,
    database=None,
    deadline=None,  # each call has a limit of its own
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """Return a function that calls a subject of `fuzz_child`, and fails unless it gave a value or refused."""
    mine, theirs = Pipe()
    folder = tmp_path_factory.mktemp("fuzz")
    places = {"NOISEUTILS_OUTPUTS": str(folder / "outputs"), "NOISEUTILS_DATA": str(folder / "data")}
    child = subprocess.Popen(
        [sys.executable, fuzz_child.__file__, str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        # threads take memory of their own from a few places; nothing is written beside the tests
        env={**os.environ, **places, "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "100"},
    )
    theirs.close()

    def ask(subject: str, *arguments: object) -> str:
        mine.send((subject, arguments))
        end, words = mine.recv()
        assert end in ("value", "refused"), f"{subject}{arguments!r:.3000}: {end}: {words}"
        return end

    yield ask
    mine.close()
    child.wait()


# --- values of any kind


def nested(value: object, depth: int) -> object:
    for _ in range(depth):
        value = [value]
    return value


ODD_NUMBERS = [
    0, 1, -1, 2, 255, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**12, 10**30, 10**308, 10**400,
    -(10**400), 0.0, -0.0, 0.5, 1.0, 1e-300, 5e-324, 1e-30, 1e30, 1e31, 1e308, -1e308, math.inf, -math.inf,
    math.nan,
]  # fmt: skip
WORDS = [
    *MODELS, *(name for study in RENDERED for name in (study, study[:-1])), "shapes", "digits", "cifar10",
    "mnist", "imagenet", "folder", "sgd", "adam", "none", "", " ", ".", "..", "/", "~", "~nobody/x",
    "../../etc", "./no", "mnist:./no:label", "imagenet:./no", "cifar10:", ":", "relu3", "BatchNorm2d",
    "input", "gaussian_noise 0.2", "adversarial_noise -1e308", "yes", "null", "1", "1e3", "1:30", "010",
    "0x10", "\u0661", "\u0663\u0660", "\uff11", "x" * 300, "x" * 5000, "a\0b", "a\nb", "\x1b[31m", "\ud800",
    "\u202e", "é", "{}", "%s", "$x$", "<b>", "2020-01-01",
]  # fmt: skip
NAMES = [
    *MODELS,
    "shapes",
    "digits",
    "mnist",
    "./images",
    "relu3",
    "input",
    "none",
    "gaussian_noise 0.2",
    "best",
]
numbers = st.sampled_from(ODD_NUMBERS) | st.integers() | st.floats()
texts = st.sampled_from(WORDS) | st.text(max_size=20)
scalars = numbers | texts | st.booleans() | st.none() | st.binary(max_size=5) | st.dates()
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(texts, inner, max_size=3)
        | st.builds(lambda value, count: [value] * count, inner, st.sampled_from([100, 1000, 1001]))
        | st.builds(nested, inner, st.sampled_from([5, 50, 400]))
    ),
    max_leaves=6,
)


# --- values by a JSON schema: what it allows, its bounds, and what lies just beyond


def by_schema(schema: dict, definitions: dict, beyond: int) -> st.SearchStrategy:
    """Return a strategy for values of a JSON schema, its bounds among them.

    beyond: 1 for values that lie just beyond its bounds, too; else 0.
    """
    if "$ref" in schema:
        return by_schema(definitions[schema["$ref"].rsplit("/", 1)[1]], definitions, beyond)
    if kinds := schema.get("anyOf") or schema.get("oneOf"):
        return st.one_of([by_schema(kind, definitions, beyond) for kind in kinds])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    return {
        "integer": lambda: st.sampled_from([int(v) for v in around(schema, 1, beyond)]),
        "number": lambda: st.sampled_from([float(v) for v in around(schema, 1e-9, beyond)]),
        "boolean": st.booleans,
        "null": st.none,
        "string": lambda: texts if beyond else st.sampled_from(NAMES),
        "array": lambda: st.builds(
            several,
            by_schema(schema["items"], definitions, beyond),
            st.sampled_from([*range(schema.get("minItems", 0), 4), 10, schema["maxItems"] + beyond]),
            st.just(schema["items"]),
        ),
        "object": lambda: st.fixed_dictionaries(
            {}, optional={n: by_schema(v, definitions, beyond) for n, v in schema["properties"].items()}
        ),
    }[schema["type"]]()


def around(schema: dict, step: float, beyond: int) -> list[float]:
    """Return a schema's bounds, numbers between them, and perhaps some that lie just beyond them."""
    low = schema.get("minimum", schema.get("exclusiveMinimum", -1000) + step)
    high = schema.get("maximum", schema.get("exclusiveMaximum", 1000) - step)
    within = [low, high, high - step, low + step, min(low + 2 * step, high), min(low + 1000 * step, high)]
    return within + [low - step, high + max(step, high * 1e-3)] * beyond


def several(value: object, count: int, schema: dict) -> list:
    """Return a list that begins with a value; the others differ, words as far as there are some."""
    if schema.get("type") in ("number", "integer"):
        return [value, *(1e-3 + k / 4096 for k in range(count - 1))][:count]
    if "enum" in schema:
        return list(dict.fromkeys([value, *schema["enum"]]))[:count]
    places = [f"./images{k}" for k in range(count)] if str(value).startswith(".") else list(MODELS)
    return [value, *places][:count]


def mutated(schema: dict, base: dict) -> st.SearchStrategy:
    """Return a strategy for values of a schema's keys: some changed, left out, misspelt, unknown."""
    within, beyond = fitting_of(schema, 0), fitting_of(schema, 1)
    hows = ["beyond"] * 3 + ["anything"] * 3 + ["missing", "misspelt", "unknown"]

    @st.composite
    def draw_values(draw):
        values, odd = dict(base), draw(st.booleans())
        for key in draw(st.lists(st.sampled_from(sorted(within)), min_size=1, max_size=8, unique=True)):
            how = draw(st.sampled_from(["within", *hows])) if odd else "within"
            if how == "missing":
                values.pop(key, None)
            elif how == "misspelt":
                values[draw(st.sampled_from([key[1:], key + "s", key.upper(), key.replace("_", "-")]))] = 1
            elif how == "unknown":
                values |= {f"{draw(texts)}{k}": k for k in range(draw(st.sampled_from([1, 2000])))}
            else:
                values[key] = draw({"within": within[key], "beyond": beyond[key]}.get(how, anything))
        return values

    return draw_values()


def fitting_of(schema: dict, beyond: int) -> dict[str, st.SearchStrategy]:
    """Return a strategy for each key of a schema, see `by_schema`."""
    definitions = schema.get("$defs", {})
    return {key: by_schema(inner, definitions, beyond) for key, inner in schema["properties"].items()}


def smoke(study: str) -> str:
    return (shipped("params") / study / "smoke.yaml").read_text()


SCHEMAS = {study: value.Params.model_json_schema() for study, value in RENDERED.items()}
WITHIN = {study: fitting_of(schema, 0) for study, schema in SCHEMAS.items()}
BEYOND = {study: fitting_of(schema, 1) for study, schema in SCHEMAS.items()}
VALUES = {study: mutated(schema, yaml.safe_load(smoke(study))) for study, schema in SCHEMAS.items()}
studies = st.sampled_from(list(RENDERED))


def dumped(value: object) -> str:
    """Return a value as YAML, or as Python writes it where YAML has no word for it."""
    try:
        return yaml.safe_dump(value, allow_unicode=True)
    except RecursionError:
        return "[" * 500 + "]" * 500
    except (yaml.YAMLError, ValueError):
        return ascii(value) if isinstance(value, str) else str(type(value))


# --- the tests


@fuzzed
@given(st.data())
def test_a_profile_of_odd_values_is_read_or_refused(ask, data):
    study = data.draw(studies)
    ask("profile", study, dumped(data.draw(VALUES[study])).encode(errors="surrogatepass"))


@fuzzed
@given(st.data())
def test_odd_parameters_of_a_notebook_are_read_or_refused(ask, data):
    study = data.draw(studies)
    ask("parameters", study, data.draw(VALUES[study]))


TOKENS = [
    "&a", "*a", "<<: ", "!!int ''", "!x", "? ", ": ", "- ", "[", "]", "{", "}", "|", ">", "|9", ">-", "'",
    '"', "#", "\t", "\n", "\r", "\0", "\x85", "\u2028", "\ufeff", "%YAML 1.1\n", "---\n", "...\n", "@", "`",
    "\\", '"\\x', "=", "0o7", "1_0", "1e", ".inf", ".nan", "~", "null", "y", "2020-01-01", "0x", "1:1:1",
    "\u0661", "é", "\U0001f600",
]  # fmt: skip
places = st.integers(0, 10**6)
edits = st.tuples(
    places,
    st.sampled_from([0, 0, 1, 5, 200]),  # characters that go
    st.sampled_from(TOKENS) | st.text(max_size=5),
    st.sampled_from([1, 1, 1, 2, 100, 3000, 100_000]),
)


@fuzzed
@given(studies, st.lists(edits, min_size=1, max_size=6), st.binary(max_size=3), places)
def test_a_profile_of_odd_text_is_read_or_refused(ask, study, edits, raw, place):
    text = smoke(study)
    for at, gone, token, times in edits:
        at %= len(text) + 1
        text = text[:at] + token * min(times, 150_000 // max(len(token), 1)) + text[at + gone :]
    content = text.encode(errors="surrogatepass")
    place %= len(content) + 1
    ask("profile", study, content[:place] + raw + content[place:])


@st.composite
def changes(draw, study, odd):
    """Draw one value of `--set` for a study: one that it takes, or an odd one."""
    if not odd:
        key = draw(st.sampled_from(sorted(WITHIN[study])))
        return f"{key}={dumped(draw(WITHIN[study][key]))}"
    key = draw(st.sampled_from(sorted(BEYOND[study])) | texts)
    values = st.sampled_from(TOKENS) | texts | anything.map(dumped)
    value = draw(BEYOND[study][key].map(dumped) | values if key in BEYOND[study] else values)
    return key + draw(st.sampled_from(["=", "=", "=", " = ", "", "=="])) + value


@fuzzed
@given(st.data())
def test_an_odd_change_is_read_or_refused(ask, data):
    study, odd = data.draw(studies), data.draw(st.booleans())
    ask("changed", study, data.draw(st.lists(changes(study, odd), max_size=4)))


PART_VALUES = {name: mutated(kind.model_json_schema(), {}) for name, kind in PARTS.items()}


@fuzzed
@given(st.data())
def test_a_part_of_a_run_of_odd_values_is_made_or_refused(ask, data):
    name = data.draw(st.sampled_from(sorted(PARTS)))
    ask("part", name, data.draw(PART_VALUES[name]))


number_texts = (
    st.sampled_from(["90", "9m", " 1.5h "])
    | st.text("0123456789.smhe+-_ \u0661\uff11", max_size=12)
    | texts
    | st.integers().map(str)
)


@fuzzed
@given(number_texts)
def test_an_odd_budget_or_number_of_workers_is_read_or_refused(ask, text):
    ask("seconds", text)
    ask("workers", text)


sizes = st.dictionaries(
    st.sampled_from(["train_size", "test_size", "image_size", "streamed"]),
    st.sampled_from([1, 2, 8]) | anything,
    max_size=2,
)
set_texts = texts | st.lists(
    st.sampled_from(["cifar10", "mnist", "imagenet", "shapes", ":", "/", "./", "~", "..", "\0"]) | texts,
    max_size=5,
).map("".join)


@fuzzed
@given(set_texts, sizes)
def test_an_odd_name_of_images_is_read_or_refused(ask, text, sizes):
    ask("data", text, sizes)


usual = ("tinycnn", 10, 3, 32, 1.0, 0)
beside = (
    st.sampled_from(list(MODELS)),
    *(st.sampled_from([1, 2, 3, 10, 33, 63, 64, 224, 1000, 4096, 4097, 10**6]) for _ in range(3)),
    st.sampled_from([0.01, 0.1, 1e-6, 0.5, 2.5, 16]),
    st.integers(0, 2**64),
)


@fuzzed
@given(
    st.tuples(*(st.just(v) | st.just(v) | n | n | n | anything for v, n in zip(usual, beside, strict=True)))
)
def test_a_network_of_odd_sizes_is_built_or_refused(ask, arguments):
    ask("network", *arguments)


def encoded(kind: str, shape: tuple[int, int], mode: str) -> bytes:
    file = io.BytesIO()
    pixels = np.random.RandomState(0).randint(0, 256, (*shape, 3)).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(file, kind)
    return file.getvalue()


FORMATS = [
    ("PNG", "RGB"),
    ("PNG", "1"),
    ("PNG", "P"),
    ("JPEG", "RGB"),
    ("JPEG", "CMYK"),
    ("GIF", "P"),
    ("WEBP", "RGB"),
]
pictures = st.builds(
    lambda form, shape, edits, cut: damaged(encoded(form[0], shape, form[1]), edits, cut),
    st.sampled_from(FORMATS),
    st.sampled_from([(8, 8), (8, 8), (1, 8), (16, 8), (1, 3000)]),
    st.lists(st.tuples(places, st.binary(min_size=1, max_size=4)), max_size=3),
    st.sampled_from([1.0, 1.0, 0.5, 0.0]),
)
FILES = [
    "a.png",
    "b.jpg",
    "c.JPEG",
    "d.webp",
    ".hidden.png",
    "e.txt",
    "f",
    "g.png.txt",
    "\u202e.png",
    "$x$.png",
]


def damaged(content: bytes, edits: list[tuple[int, bytes]], cut: float) -> bytes:
    for at, raw in edits:
        at %= len(content)
        content = content[:at] + raw + content[at + len(raw) :]
    return content[: int(len(content) * cut)]


@fuzzed
@given(
    st.dictionaries(
        st.builds(
            "/".join,
            st.tuples(
                st.sampled_from(["train", "train", "test", "val", "."]),
                st.sampled_from(["a", "b", "a b", ".", "<b>"]),
                st.sampled_from(FILES),
            ),
        ),
        pictures,
        max_size=6,
    ),
    sizes,
)
def test_an_odd_folder_of_images_is_read_or_refused(ask, files, sizes):
    good = {
        f"{split}/{name}/z.png": encoded("PNG", (8, 8), "RGB") for split in ("train", "test") for name in "ab"
    }
    ask("images", good | files, sizes)


words = st.sampled_from(["--profile", "--set", "--budget", "--workers", "--executor"]) | texts


@settings(fuzzed, max_examples=EXAMPLES if LONG else EXAMPLES // 3)
@given(st.data())
def test_an_odd_command_line_is_obeyed_or_refused(ask, data):
    """No executor is called "none": nothing is trained."""
    strange = data.draw(st.booleans())
    study = data.draw(studies | texts if strange else studies)
    known = study if study in RENDERED else "noisy_dropout"
    sets = [f"--set={change}" for change in data.draw(st.lists(changes(known, strange), max_size=2))]
    odd = data.draw(st.lists(words, max_size=2)) if strange else []
    tail = data.draw(st.sampled_from([[], ["--profile", "smoke"]])) + sets + odd
    none = ["--executor", "none"]
    calls = [
        ["status", study, *tail],
        ["sweep", study, *tail, *none],
        ["sweep", study, *none, "--budget", data.draw(number_texts)],
        ["sweep", study, *none, "--workers", data.draw(number_texts)],
        ["data", "check", data.draw(set_texts)],
        ["claims", data.draw(texts)],
        ["bench", *odd, "none"],
    ]
    ask("command", data.draw(st.sampled_from(calls)))


def test_a_call_without_an_end_or_without_a_measure_is_found(ask):
    with pytest.raises(AssertionError, match="killed"):
        ask("endless")
    with pytest.raises(AssertionError, match="MemoryError"):
        ask("boundless")
