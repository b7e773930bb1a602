"""The wheel, installed into environments without numba, serves a short session with redis-py.

The test needs the wheel in the directory that KVSTORE_WHEEL_DIR names; `make wheel` builds it.  One wheel is for all
Python versions, so the test tries each supported version that this machine has, on the PATH or from pyenv.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from bench.rig.ports import Port

WHEELS = Path(os.environ.get("KVSTORE_WHEEL_DIR", "")).resolve()
ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.skipif("KVSTORE_WHEEL_DIR" not in os.environ, reason="`make wheel` runs these")


@pytest.fixture(scope="module")
def wheel() -> Path:
    """The wheel."""
    (found,) = WHEELS.glob("kvstore-*.whl")
    return found


def interpreters() -> dict[str, str]:
    """The Python interpreters of this machine that the wheel supports, by version."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = {}
    for minor in range(11, 15):
        version = f"3.{minor}"
        candidates = [sys.executable] if sys.version_info[:2] == (3, minor) else [shutil.which(f"python{version}")]
        candidates += sorted(map(str, pyenv.glob(f"{version}.*/bin/python")))
        for candidate in candidates:
            if candidate and subprocess.run([candidate, "-c", "import ensurepip"], check=False).returncode == 0:
                found[version] = candidate
                break
    return found


INTERPRETERS = interpreters() if "KVSTORE_WHEEL_DIR" in os.environ else {"none": ""}


@pytest.fixture(scope="module", params=INTERPRETERS)
def bin_directory(wheel: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of programs in an environment with the wheel and its dependencies."""
    home = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([INTERPRETERS[request.param], "-m", "venv", str(home)], check=True)
    install = [home / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, wheel], check=True)
    return home / "bin"


@pytest.fixture
def client(bin_directory: Path, tmp_path: Path) -> Iterator[redis.Redis]:
    """A client of a server that runs from the wheel, without a cache."""
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
    assert "llvmlite" not in maps and "numpy" not in maps
    assert not (tmp_path / "cache").exists()
    listed = subprocess.run([bin_directory / "pip", "list"], capture_output=True, text=True, check=True).stdout
    assert not {"numba", "llvmlite", "numpy"} & {line.split()[0] for line in listed.splitlines()}


def test_a_kernel_of_one_s_own_says_what_is_missing(bin_directory, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from mmcore.jit import int64, linked\n"
        "@linked(int64(int64))\n"
        "def twice(number):\n"
        "    return 2 * number\n"
        "print(twice(4))\n"
    )
    done = subprocess.run([bin_directory / "python", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "numba is not installed: pip install" in done.stderr


def test_the_machine_by_itself_works_without_numpy(bin_directory, tmp_path):
    script = (
        "from mmcore import AddressSpace, PhysicalMemory, path_of\n"
        "space = AddressSpace(PhysicalMemory(1 << 26)); space.map(0, 8192); space.write(0, b'hello')\n"
        "child = space.fork(); space.write(0, b'world')\n"
        "print(child.read(0, 5), space.read(0, 5), len(path_of(space, 0)))\n"
    )
    run = [bin_directory / "python", "-c", script]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["b'hello'", "b'world'", "4"]


def test_the_plugin_of_pytest_loads_and_gives_each_test_a_store(bin_directory, tmp_path):
    install = [bin_directory / "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "--constraint", ROOT / "constraints.txt", "pytest", "redis"], check=True)
    tmp_path.joinpath("test_it.py").write_text(
        "import pytest\n"
        "import mmcore.heap\n"
        "@pytest.mark.parametrize('i', range(2))\n"
        "def test_each_has_an_empty_store(kv, i):\n"
        "    assert kv.dbsize() == 0 and kv.set('city', 'Lisbon')\n"
        "def test_kernels_are_not_rewritten_for_assertions():\n"
        "    assert type(mmcore.heap.__loader__).__name__ == 'SourceFileLoader'\n"
    )
    environment = {"PATH": os.environ["PATH"], "KVSTORE_CACHE_DIR": str(tmp_path / "cache")}
    run = [bin_directory / "python", "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", "--trace-config"]
    done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^ +kvstore +: .*site-packages/kvstore/testing/plugin\.py$", done.stdout, re.MULTILINE)
    assert "3 passed" in done.stdout
