"""Fixtures shared by the attacks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import harness
from tests.harness import Process

PASSWORD = "se same"


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server for attacks by clients without restrictions."""
    with harness.start(tmp_path_factory.mktemp("attacked")) as process:
        yield process


@pytest.fixture(scope="session")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server that requires a password: tests.attack.conftest.PASSWORD."""
    directory = tmp_path_factory.mktemp("locked")
    with harness.start(directory, options=("--requirepass", PASSWORD), password=PASSWORD) as process:
        yield process


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An empty directory for a server's images."""
    directory = tmp_path / "data"
    directory.mkdir()
    return directory
