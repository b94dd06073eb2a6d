"""What the fuzz calls: one call at a time, in a process of its own with a limit on time and on memory.

    python tests/fuzz_child.py DESCRIPTOR

DESCRIPTOR is one end of a `multiprocessing.Pipe`. Reads (name of a subject, arguments), answers (end, words),
`end` being one of: "value", "refused" (a UserError, or exit code 2), "raised" (anything else), "killed".
"""

import contextlib
import io
import json
import os
import pickle
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from keyword import iskeyword
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import typer
from PIL import Image

from noiseutils import cli, cli_options, models
from noiseutils.book import pipeline  # noqa: F401  what commands import is imported once, not by every process
from noiseutils.config import Data, Run
from noiseutils.data import availability, load
from noiseutils.data.spec import EMBEDDED
from noiseutils.errors import UserError
from noiseutils.models import build_model
from noiseutils.spec import Spec, _specs, identity, short
from noiseutils.studies import RENDERED
from noiseutils.studies.params import StudyParams
from noiseutils.studies.profiles import seconds, study_params

SECONDS = 10  # of processor time that one call may take
PATIENCE = 60  # seconds that one call may take where other processes run
MEMORY = 1 << 30  # bytes that one call may take
WEIGHTS = 3 * 10**7  # of a network that is made; the package's own limit takes 4 GB
LINES = 14  # of an error


def specs_within(kind: type[Spec]) -> dict[str, type[Spec]]:
    """Return a kind of value and those that its fields are made of, by name."""
    found = {kind.__name__: kind}
    for field in kind.model_fields.values():
        for inner in _specs(field.annotation):
            found |= specs_within(inner)
    return found


PARTS = specs_within(Run)


def named(study: str, params: StudyParams) -> None:
    """Name every training of some parameters, as each command does first."""
    runs = RENDERED[study].runs(params)
    assert runs
    assert len({run.key for run in runs}) <= len(runs)
    str(runs[0])
    again = type(params).read(
        json.loads(json.dumps(params.model_dump(mode="json"))), "what it was written as"
    )
    assert again == params


def profile(study: str, content: bytes) -> None:
    """Read the file of a profile."""
    path = Path("mine.yaml")
    path.write_bytes(content)
    named(study, study_params(study, str(path)))


def parameters(study: str, values: dict) -> None:
    """Read the parameters of a notebook."""
    kind = RENDERED[study].Params
    values = {name: value for name, value in values.items() if name.isidentifier() and not iskeyword(name)}
    params = kind.from_notebook({**values, "In": ["# Parameters\n" + "".join(f"{n} = 1\n" for n in values)]})
    assert params == kind.read(values, "values")
    named(study, params)


def changed(study: str, changes: list[str]) -> None:
    """Change a profile by `--set`."""
    named(study, study_params(study, "smoke", changes))


def part(name: str, values: dict) -> None:
    """Make a part of a run."""
    made = PARTS[name](**values)
    assert made == made.replace()
    assert hash(made) == hash(made.replace())
    assert short(made)
    assert str(made)
    assert identity(made) == identity(made.replace())
    assert type(made).model_validate_json(made.model_dump_json()) == made
    if isinstance(made, Run):
        assert len(made.key) == 64


def workers(text: str) -> None:
    """Read `--workers`."""
    try:
        assert 1 <= cli_options.up_to(1024)(text) <= 1024
    except typer.BadParameter as error:
        raise UserError(str(error)) from None


def data(text: str, sizes: dict) -> None:
    """Name a set of images, and look for it."""
    made = Data.parse(text, **sizes)
    assert made.label.encode()
    assert hash(made) == hash(made.replace())
    if made.name not in EMBEDDED:
        availability.check(made)


def network(*arguments: object) -> None:
    """Build a network, of fewer weights than the package allows."""
    models.MOST_WEIGHTS, models.USUAL_SIZES = WEIGHTS, dict.fromkeys(models.USUAL_SIZES, 0)
    made = build_model(*arguments)
    assert sum(weight.numel() for weight in made.parameters()) <= WEIGHTS


def images(files: dict[str, bytes], sizes: dict) -> None:
    """Read a folder of images."""
    for name, content in files.items():
        path = Path("tree") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    found = load(Data.parse("./tree", **sizes))
    assert len(found.train)


def command(words: list[str]) -> None:
    """Call the command line."""
    sys.argv = ["noiseutils", *words]
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as end:
        said = err.getvalue()
        assert "Traceback" not in said + out.getvalue()
        if end.code == 2:
            raise UserError(said) from None
        if end.code not in (0, None):
            raise RuntimeError(f"exit code {end.code}: {said}") from None


def endless() -> None:
    """Take more processor time than there is."""
    signal.setitimer(signal.ITIMER_PROF, 0.2)
    while True:
        pass


def boundless() -> None:
    """Take more memory than there is."""
    bytearray(2 * MEMORY)


reading = (profile, parameters, changed, part, seconds, workers, data, network, images, command)
SUBJECTS = {subject.__name__: subject for subject in (*reading, endless, boundless)}


def ending(name: str, arguments: tuple) -> tuple[str, str]:
    """Call a subject; return how that ended."""
    try:
        SUBJECTS[name](*arguments)
    except UserError as error:
        lines = str(error).splitlines()
        if not lines or len(lines) > LINES + 10 * (name == "command") or max(map(len, lines)) > 1500:
            return "raised", f"an error of {len(lines)} lines:\n{str(error)[:3000]}"
        return "refused", str(error)
    except BaseException:
        return "raised", traceback.format_exc()[-3000:]
    return "value", ""


def limited(name: str, arguments: tuple) -> tuple[str, str]:
    """Call a subject in a process of its own, with a limit on time and memory; return how that ended."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        if sys.platform.startswith("linux"):  # elsewhere the limit counts what is merely reserved, or nothing
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            most = pages * resource.getpagesize() + MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.alarm(PATIENCE)
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            found = pickle.dumps(ending(name, arguments))
            os.chdir("/")
        with os.fdopen(write, "wb") as pipe:
            pipe.write(found)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        found = pipe.read()
    _, status = os.waitpid(child, 0)
    if status == 0:
        return pickle.loads(found)
    number = os.waitstatus_to_exitcode(status)
    late = -number in (signal.SIGPROF, signal.SIGALRM)
    return "killed", f"more than {SECONDS} s" if late else f"ended with {number}"


def warm_up() -> None:
    """Import what is imported when it is needed: once, and not by every process."""
    availability.overview()
    Image.init()
    for words in (["status", "noisy_dropout", "--profile", "smoke"], ["data", "check", "cifar10"]):
        with contextlib.suppress(UserError):
            command(words)


def main() -> None:
    """Answer one question after the other until the pipe is closed."""
    pipe = Connection(int(sys.argv[1]))
    torch.set_num_threads(1)
    warm_up()
    warnings.simplefilter("error")
    with contextlib.suppress(EOFError):
        while True:
            name, arguments = pipe.recv()
            pipe.send(limited(name, arguments))


if __name__ == "__main__":
    main()
