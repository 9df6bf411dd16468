"""Puts the files that FastServe needs beside its code into the wheel; pyproject.toml says everything else."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

# Paths in the checkout; in the wheel they are under deployments/data, see deployments/shipped.py.
SHIPPED = (
    "cluster.yaml",
    "cluster.gpu.yaml",
    "models",
    "suites",
    "locks/cpu-engine.lock",
    "scripts/install_cpu_engine.sh",
)


class BuildWithData(build_py):
    """Copies the shipped files to the built packages; an editable install reads them from the checkout."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for name in SHIPPED:
            target = Path(self.build_lib, "deployments", "data", name)
            target.parent.mkdir(parents=True, exist_ok=True)
            if Path(name).is_dir():
                shutil.copytree(name, target, dirs_exist_ok=True)
            else:
                shutil.copy2(name, target)


setup(cmdclass={"build_py": BuildWithData})
