"""Put the profiles and notebooks of a checkout into the wheel; everything else stands in pyproject.toml."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithProfiles(build_py):
    """Copy params/ and notebooks/ into the package that is built: `package-data` cannot reach outside it.

    An editable install copies nothing: `provenance.shipped` finds the folders beside its package.
    """

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for path in (*Path("params").glob("*/*.yaml"), *Path("notebooks").glob("*.ipynb")):
            copy = Path(self.build_lib, "noiseutils", path)
            self.mkpath(str(copy.parent))
            self.copy_file(str(path), str(copy))


setup(cmdclass={"build_py": BuildWithProfiles})
