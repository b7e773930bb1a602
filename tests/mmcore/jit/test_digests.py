"""An edit compiles the kernels that it changes, and nothing else."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from mmcore import jit
from mmcore.jit.digests import Digests

ROOT = Path(__file__).resolve().parent.parent.parent.parent
pytestmark = pytest.mark.skipif(jit.DISABLED, reason="there is nothing to compile")

PACKAGE = {
    "__init__": "",
    "low": """
        from mmcore.jit import int64
        from mmcore.jit import kernel, linked
        from edited.constants import LEAF_VALUE, UNUSED_VALUE, VALUE
        from edited import constants
        from edited.record import STATE

        @kernel
        def leaf(x):
            return x + LEAF_VALUE

        @linked(int64(int64))
        def low(x):
            # A comment.
            return x + 1

        @linked(int64(int64))
        def inliner(x):
            return leaf(x)

        @linked(int64(int64))
        def of_constant(x):
            return x + VALUE

        @linked(int64(int64))
        def of_module(x):
            return x + constants.OTHER_VALUE

        @linked(int64(STATE))
        def of_record(state):
            return state.first[0]
        """,
    "high": """
        from mmcore.jit import int64
        from mmcore.jit import linked
        from edited.low import inliner, low, of_constant, of_module, of_record

        @linked(int64(int64))
        def caller(x):
            return low(x) + 10
        """,
    "constants": """
        VALUE = 100
        OTHER_VALUE = 1000
        LEAF_VALUE = 10000
        UNUSED_VALUE = 1
        """,
    "record": """
        from dataclasses import dataclass
        import numpy as np
        from mmcore.jit import int64
        from mmcore.jit import Plain, Record, state_type

        @dataclass(frozen=True, slots=True, eq=False)
        class State(Record):
            first: np.ndarray
            second: np.ndarray

        STATE = state_type(State, Plain(int64), Plain(int64))
        """,
}
RUN = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from mmcore import jit
import edited.high as high
from edited.record import State
said = set()
jit.build(lambda done, total, symbol: said.add(symbol.rpartition(".")[2]))
state = State(first=np.array([7]), second=np.array([8]))
print(high.caller(1), high.inliner(1), high.of_constant(1), high.of_module(1), high.of_record(state))
print(*sorted(said - {""}))
for symbol, one in jit.library.registered().items():
    if symbol.startswith("edited"):
        print(jit.kept.library_file(one.digest))
"""
FIRST = "12 10001 101 1001 7"
EDITS = {  # what is edited: file, text, by what; answers and what is compiled again
    "a body": ("low", "x + 1", "x + 2", "13 10001 101 1001 7", "low"),
    "a leaf": ("low", "x + LEAF_VALUE", "x - LEAF_VALUE", "12 -9999 101 1001 7", "inliner"),
    "a constant of a leaf": ("constants", "10000", "20000", "12 20001 101 1001 7", "inliner"),
    "a constant": ("constants", "VALUE = 100\n", "VALUE = 200\n", "12 10001 201 1001 7", "of_constant"),
    "a constant by its module": ("constants", "1000\n", "3000\n", "12 10001 101 3001 7", "of_module"),
    "a constant that is not used": ("constants", "UNUSED_VALUE = 1", "UNUSED_VALUE = 2", FIRST, ""),
    "a comment": ("low", "# A comment.", "# Another.\n", FIRST, ""),
    "fields swapped": (
        "record",
        "first: np.ndarray\n            second",
        "second: np.ndarray\n            first",
        FIRST,
        "of_record",
    ),
    "a signature": (
        "low",
        "@linked(int64(int64))\n        def low",
        "@linked(int64(int32))\n        def low",
        FIRST,
        "caller low",
    ),
}


NAME = f"edited_{os.getpid()}_{time.time_ns()}"  # a kernel's symbol is in its digest: none of these was ever compiled


def run_edited(directory: Path, file: str = "low", old: str = "", new: str = "") -> tuple[str, str, list[Path]]:
    """Answers of the package's kernels with one edit made, names of those that were compiled, their files."""
    package = directory / NAME
    package.mkdir(parents=True)
    for name, text in PACKAGE.items():
        assert name != file or old in text
        text = text.replace(old, new, 1) if name == file and old else text
        text = text.replace("import int64\n", "import int32, int64\n").replace("edited", NAME)
        (package / f"{name}.py").write_text(textwrap.dedent(text))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-B", "-c", RUN.replace("edited", NAME), str(directory)]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    answers, compiled, *objects = out.splitlines()
    return answers, compiled, [Path(line) for line in objects]


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The files of the package's kernels as they are before any edit."""
    answers, compiled, files = run_edited(tmp_path_factory.mktemp("unedited"))
    assert (answers, compiled) == (FIRST, "caller inliner low of_constant of_module of_record")
    assert len(files) == 6
    return files


@pytest.mark.usefixtures("objects")
@pytest.mark.parametrize(("file", "old", "new", "answers", "compiled"), EDITS.values(), ids=EDITS)
def test_an_edit_compiles_what_it_reaches(tmp_path, file, old, new, answers, compiled):
    assert run_edited(tmp_path, file, old, new)[:2] == (answers, compiled)


def test_a_kept_file_that_is_not_whole_is_compiled_again(tmp_path, objects):
    empty, cut, zeroed, flipped, removed, _ = objects
    empty.write_bytes(b"")
    cut.write_bytes(cut.read_bytes()[:-100])
    zeroed.write_bytes(bytes(zeroed.stat().st_size))
    flipped.write_bytes(flipped.read_bytes()[:-1] + bytes([flipped.read_bytes()[-1] ^ 1]))
    removed.unlink()
    answers, compiled, files = run_edited(tmp_path / "after")
    assert (answers, len(compiled.split())) == (FIRST, 5)
    assert files == objects
    assert run_edited(tmp_path / "again")[:2] == (FIRST, "")


OWN = """
from mmcore.jit import int64
from mmcore.jit import linked
from helper import VALUE

@linked(int64(int64))
def answer(x):
    return x + VALUE + {}

print(answer(1))
"""


def test_an_edit_reaches_the_kernels_of_a_script_too(tmp_path: Path) -> None:
    def run(name: str, added: int, value: int) -> int:
        (tmp_path / "helper.py").write_text(f"VALUE = {value}\n")
        (tmp_path / name).write_text(OWN.format(added))
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, str(tmp_path / name)]
        return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)

    value = 1000 + os.getpid()  # never seen by the cache before
    assert run("one.py", 1, value) == value + 2
    assert run("one.py", 5, value) == value + 6
    assert run("one.py", 5, value + 100) == value + 106
    assert run("two.py", 7, value + 100) == value + 108


UNTOLD = [1]


def test_a_value_that_has_no_digest_is_refused():
    def of_list(x):
        return x + UNTOLD[0]

    with pytest.raises(jit.Undigestible, match="of_list names UNTOLD, a list, which has no digest"):
        Digests("").function(of_list)
