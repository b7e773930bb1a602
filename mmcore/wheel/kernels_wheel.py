"""The build backend: setuptools' own, extended so that a wheel contains the library of linked kernels.

    pip wheel .         kvstore-VERSION-py3-none-manylinux_2_17_x86_64.whl

The machine code is the same for every Python, so the wheel's tag names no version.  It calls only a few old functions
of the C library, so any glibc of the last decade will do.  Building compiles every kernel for each level of x86-64.
Only this requires numba; an editable installation does not.
"""

import sys
import tomllib
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import (
    build_editable,
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

ROOT = Path(__file__).resolve().parent.parent.parent
PLATFORM = "manylinux_2_17_x86_64"


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """The packages that `build_wheel` requires: the imports of all modules with kernels, and the compiler."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    known = build_meta.get_requires_for_build_wheel(config_settings)
    return [*known, *project["dependencies"], *extras["build"], *extras["bench"]]


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """Compile the kernels for each level, and pack them with the sources.  Returns the wheel's name."""
    sys.path.insert(0, str(ROOT))
    from mmcore.jit import kept, library
    from mmcore.jit.settings import LEVELS

    carried = [library.carried_file(level) for level in LEVELS]
    try:
        for level, file in zip(LEVELS, carried, strict=True):
            file.write_bytes(kept.whole(library.build_main(_say, of_level=level)))
        options = ["--python-tag", "py3", "--plat-name", PLATFORM]
        return str(build_meta.build_wheel(wheel_directory, {"--build-option": options}, metadata_directory))
    finally:
        for file in carried:
            file.unlink(missing_ok=True)  # the checkout uses the library of its own sources again


def _say(done: int, total: int, symbol: str) -> None:
    print(f"{done}/{total} {symbol}", flush=True)
