"""Put profiles, notebooks and docs of a checkout into the wheel; everything else stands in pyproject.toml."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithProfiles(build_py):
    """Copy params/, notebooks/ and docs/ into the built package: `package-data` reaches nothing outside it.

    An editable install copies nothing: `provenance.shipped` finds the folders beside its package.
    """

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        docs = (path for path in Path("docs").rglob("*") if path.suffix in (".md", ".py", ".css", ".js"))
        notebooks = (
            path for name in ("*", "solutions/*") for path in Path("notebooks").glob(f"{name}.ipynb")
        )
        for path in (*Path("params").glob("*/*.yaml"), *notebooks, *docs):
            copy = Path(self.build_lib, "noiseutils", path)
            self.mkpath(str(copy.parent))
            self.copy_file(str(path), str(copy))


setup(cmdclass={"build_py": BuildWithProfiles})
