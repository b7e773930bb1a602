"""The wheel, installed into an environment that has no numba, serves; a short session with redis-py against it.

Needs the wheel, in the directory that KVSTORE_WHEEL_DIR names; `make wheel` builds it first.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from bench.ports import Port

WHEELS = Path(os.environ.get("KVSTORE_WHEEL_DIR", "")).resolve()
ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.skipif("KVSTORE_WHEEL_DIR" not in os.environ, reason="`make wheel` runs these")


@pytest.fixture(scope="module")
def wheel() -> Path:
    """The wheel."""
    (found,) = WHEELS.glob("kvstore-*.whl")
    return found


@pytest.fixture(scope="module")
def bin_directory(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel and what it depends on."""
    home = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    install = [home / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "--constraint", ROOT / "constraints.txt", wheel], check=True)
    return home / "bin"


@pytest.fixture
def client(bin_directory: Path, tmp_path: Path) -> Iterator[redis.Redis]:
    """A client of a server that runs from the wheel, without a cache to look into."""
    port = Port()
    environment = {"PATH": os.environ["PATH"], "KVSTORE_CACHE_DIR": str(tmp_path / "cache")}
    command = [
        bin_directory / "kvstore",
        "serve",
        "--port",
        str(port.number),
        "--dir",
        str(tmp_path),
        "--save",
        "3600 1",
    ]
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:  # it ends with the process
                if b"Ready to accept connections" in line:
                    break
            with redis.Redis(port=port.number) as connection:
                yield connection
        finally:
            process.kill()
            port.release()


def test_its_name_says_any_python_and_one_platform(wheel):
    assert re.fullmatch(r"kvstore-[\d.]+-py3-none-manylinux_2_17_x86_64\.whl", wheel.name)


def test_it_serves_without_numba_and_compiles_nothing(bin_directory, client, tmp_path):
    assert client.set("city", "Lisbon", ex=3600)
    assert client.get("city") == b"Lisbon"
    with client.pipeline() as transaction:
        assert transaction.incr("visits").incr("visits").execute() == [1, 2]
    assert client.save()
    maps = Path(f"/proc/{client.info('server')['process_id']}/maps").read_text()
    assert re.search(r"site-packages/mmcore/jit/kernels\.x86-64-v[23]\.so", maps)
    assert "llvmlite" not in maps
    assert not (tmp_path / "cache").exists()
    listed = subprocess.run([bin_directory / "pip", "list"], capture_output=True, text=True, check=True).stdout
    assert not {"numba", "llvmlite"} & {line.split()[0] for line in listed.splitlines()}
