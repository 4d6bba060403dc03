"""What pyproject.toml cannot say: a wheel carries bpf/ and profiles/ inside the package, in retis_py/_data."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

DATA = ("bpf", "profiles")


class BuildWithData(build_py):
    """Copies the data directories when a wheel is built; an editable install finds them beside the package."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for name in DATA:
            target = Path(self.build_lib, "retis_py", "_data", name)
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(name, target)


setup(cmdclass={"build_py": BuildWithData})
