"""A machine's clock that can be set: for the processes of a test, and for nobody else."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest


class Wall:
    """The time of day that processes started with its `settings` see."""

    def __init__(self, directory: Path) -> None:
        """Skips the test where no C compiler is."""
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            pytest.skip("no C compiler, to make a clock that can be set")
        library, self._file = directory / "wall.so", directory / "wall"
        source = Path(__file__).with_name("wall.c")
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True
        )
        self.set(0)
        self.settings: Mapping[str, str] = {
            "LD_PRELOAD": str(library),
            "WALL_FILE": str(self._file),
        }

    def set(self, seconds: int) -> None:
        """Move it by so much: ahead, or below 0 back."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("q", seconds))
