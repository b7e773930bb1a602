"""A server for the tests of the command line."""

import shutil
from collections.abc import Iterator

import pytest

from tests.harness import Process


class CliServer(Process):
    def directory_vanishes(self) -> None:
        shutil.rmtree(self.directory)


@pytest.fixture
def cli_server(tmp_path) -> Iterator[CliServer]:
    directory = tmp_path / "data"
    directory.mkdir()
    with CliServer("kvstore", directory) as process:
        yield process
