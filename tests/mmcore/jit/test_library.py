"""Finding, building and opening the library, on a project of three kernels that has the tool chain and nothing else."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from mmcore import jit
from mmcore.jit import kept, settings
from mmcore.jit.errors import Unsupported

ROOT = Path(__file__).resolve().parent.parent.parent.parent
pytestmark = pytest.mark.skipif(jit.DISABLED, reason="there is nothing to compile")

KERNELS = """
from mmcore.jit import int64, kernel, linked

@kernel
def half(x):
    return x // 2

@linked(int64(int64))
def twice(x):
    assert x >= 0, "a number below zero"
    return 2 * x

@linked(int64(int64))
def same(x):
    return half(twice(x))

@linked(int64(int64))
def next_one(x):
    return same(x) + 1
"""
RUN = """
import sys
from mmcore import jit
import tiny.kernels as kernels
said = []
jit.build(lambda *words: said.append(words))
print(kernels.next_one(41))
print(len([symbol for _, _, symbol in said if symbol]), (0, 0, "") in said)
print(*sorted({name for name in ("numba", "llvmlite") if sys.modules.get(name)}))
print("LLVM" if "llvmlite" in open("/proc/self/maps").read() else "")
"""


class Project:
    """A checkout of its own, in which the tool chain serves a package `tiny`."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.cache = directory / "checkout", directory / "cache"
        ignored = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(ROOT / "mmcore" / "jit", self.directory / "mmcore" / "jit", ignore=ignored)
        shutil.copy(ROOT / "mmcore" / "__init__.py", self.directory / "mmcore")
        self.package = self.directory / "tiny"
        self.package.mkdir()
        (self.package / "__init__.py").touch()
        (self.package / "kernels.py").write_text(KERNELS)
        (self.package / "linked_kernels.txt").write_text("tiny.kernels\n")

    def start(self, code: str = RUN, *options: str, **variables: str) -> subprocess.Popen[str]:
        """Run Python in it."""
        environment = {**os.environ, "PYTHONPATH": str(self.directory), "KVSTORE_CACHE_DIR": str(self.cache)}
        environment |= {"PYTHONDONTWRITEBYTECODE": "1"} | variables
        command = [sys.executable, *options, "-c", textwrap.dedent(code)]
        return subprocess.Popen(
            command, env=environment, cwd=self.directory, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def run(self, code: str = RUN, *options: str, **variables: str) -> list[str]:
        """The lines that it prints."""
        process = self.start(code, *options, **variables)
        out, error = process.communicate()
        assert process.returncode == 0, error
        return out.splitlines()

    @property
    def libraries(self) -> list[Path]:
        """The libraries that are kept."""
        return sorted(self.cache.glob("libraries/*.so"))


BUILT, OPENED = ["42", "3 False", "", ""], ["42", "0 False", "", ""]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose kernels were never compiled."""
    return Project(tmp_path)


def test_it_is_built_once_and_then_opened_and_neither_imports_the_compiler(project):
    assert project.run() == BUILT
    assert len(project.libraries) == 1
    assert project.run() == OPENED


@pytest.mark.parametrize("damage", ["empty", "cut", "zeroed", "flipped"])
def test_a_library_that_is_not_whole_is_built_again(project, damage):
    project.run()
    (library,) = project.libraries
    data = library.read_bytes()
    flipped = data[:5000] + bytes([data[5000] ^ 1]) + data[5001:]
    library.write_bytes({"empty": b"", "cut": data[:-1], "zeroed": bytes(len(data)), "flipped": flipped}[damage])
    assert project.run() == OPENED  # the objects are kept, so nothing is compiled
    assert library.read_bytes() == data


def test_an_edit_makes_another_library_and_compiles_what_it_changes(project):
    project.run()
    (project.package / "kernels.py").write_text(KERNELS.replace("same(x) + 1", "same(x) + 2"))
    assert project.run() == ["43", "1 False", "", ""]
    (project.package / "kernels.py").write_text(KERNELS.replace("2 * x", "2 * x  # the double"))
    assert project.run() == OPENED


@pytest.mark.parametrize("damage", [False, True])
def test_a_leaf_is_kept_and_linked_again_by_another_process(project, damage):
    project.run()
    (leaf,) = project.cache.glob("objects/*/*.bc")
    made = leaf.stat().st_ino
    if damage:
        leaf.write_bytes(leaf.read_bytes()[:-1])
    (project.package / "kernels.py").write_text(KERNELS.replace("half(twice(x))", "half(twice(x)) + 1"))
    assert project.run() == ["43", "1 False", "", ""]
    assert [file.stat().st_ino == made for file in project.cache.glob("objects/*/*.bc")] == [not damage]


def test_a_leaf_that_calls_itself_is_refused(project):
    (project.package / "kernels.py").write_text(KERNELS.replace("x // 2", "half(x // 2)"))
    process = project.start()
    _, error = process.communicate()
    assert process.returncode == 1
    assert "<leaf kernel tiny.kernels.half> calls itself, so it cannot be inlined" in error


def test_a_cache_that_cannot_be_written_is_done_without(project):
    project.cache.write_text("no directory")
    process = project.start()
    out, error = process.communicate()
    assert (out.splitlines(), process.returncode) == (BUILT, 0), error
    assert "the kernels cannot be kept, and will be compiled anew" in error


def test_two_programs_that_start_together_build_it_once(project):
    together = [project.start(), project.start()]
    answers = sorted(process.communicate()[0].splitlines()[:2] for process in together)
    assert answers[1] == ["42", "3 False"]
    assert answers[0] in (["42", "0 True"], ["42", "0 False"])  # it waited, or came when all was done
    assert len(project.libraries) == 1


def test_assertions_stay_under_python_o_and_nothing_is_built_for_it(project):
    assert project.run() == BUILT
    code = """
        from mmcore.jit import library
        library.build_main = None
        import tiny.kernels as kernels
        try:
            kernels.twice(-1)
        except AssertionError as error:
            print(error)
        """
    assert project.run(code, "-O") == ["a number below zero"]
    assert len(project.libraries) == 1


WITHOUT_NUMBA = """
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "numba" else found(name, *more)
sys.modules["numba"] = sys.modules["llvmlite"] = None
"""


def test_a_carried_library_serves_without_numba_and_only_its_own_sources(project):
    code = """
        from mmcore.jit import kept, library, settings
        library.carried_file(settings.level()).write_bytes(kept.whole(library.build_main()))
        """
    project.run(code)
    shutil.rmtree(project.cache)
    assert project.run(WITHOUT_NUMBA + RUN) == OPENED
    assert project.libraries == []
    (project.package / "kernels.py").write_text(KERNELS.replace("same(x) + 1", "same(x) + 2"))
    process = project.start(WITHOUT_NUMBA + RUN)
    _, error = process.communicate()
    assert process.returncode == 1
    assert "these kernels have to be compiled, and numba is not installed: pip install 'kvstore[build]'" in error
    assert project.run() == ["43", "3 False", "", ""]


def test_kernels_of_a_script_of_one_s_own_say_what_is_missing_without_numba(project):
    project.run()
    own = """
        from mmcore.jit import int64, linked
        from tiny.kernels import next_one

        @linked(int64(int64))
        def own(x):
            return next_one(x) + 1

        print(own(40))
        """
    script = project.directory / "own.py"
    script.write_text(textwrap.dedent(own))
    run = f"exec(compile(open({str(script)!r}).read(), {str(script)!r}, 'exec'))"
    environment = {"PYTHONDONTWRITEBYTECODE": "1"}
    assert project.run(run, **environment) == ["42"]
    assert project.run(WITHOUT_NUMBA + run, **environment) == ["42"]  # it was compiled before
    script.write_text(textwrap.dedent(own).replace("+ 1", "+ 2"))
    process = project.start(WITHOUT_NUMBA + run)
    _, error = process.communicate()
    assert "own has to be compiled, and numba is not installed: pip install numba" in error


def test_what_has_not_been_used_for_a_month_goes(tmp_path, monkeypatch):
    monkeypatch.setenv("KVSTORE_CACHE_DIR", str(tmp_path))
    files = [kept.object_file("ab"), kept.library_file("cd")]
    for file in files:
        kept.keep(file, b"code")
    now = files[0].stat().st_mtime
    kept.remove_unused(now + kept.UNUSED_S - 60)
    assert [kept.read_kept(file) for file in files] == [b"code", b"code"]
    os.utime(files[0], (now - 86400 * 2, now - 86400 * 2))
    assert kept.read_kept(files[0]) == b"code"  # which is a use
    assert files[0].stat().st_mtime > now - 60
    os.utime(files[1], (now - kept.UNUSED_S - 60, now - kept.UNUSED_S - 60))
    kept.remove_unused(now)
    assert [file.exists() for file in files] == [True, False]


V3 = "fpu cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3 avx avx2 bmi1 bmi2 f16c fma abm movbe xsave sse2"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [(V3, "x86-64-v3"), (V3.replace("avx2", ""), "x86-64-v2"), (f"{V3} avx512f", "x86-64-v3")],
)
def test_the_level_is_the_highest_that_the_processor_has(monkeypatch, flags, expected):
    monkeypatch.delenv("NUMBA_CPU_NAME", raising=False)
    monkeypatch.setattr(settings, "_processor_flags", lambda: set(flags.split()))
    assert settings.level.__wrapped__() == expected


def test_a_machine_that_cannot_run_the_kernels_is_told_why(monkeypatch):
    monkeypatch.delenv("NUMBA_CPU_NAME", raising=False)
    monkeypatch.setattr(settings, "_processor_flags", lambda: {"fpu", "ssse3", "pni", "cx16", "lahf_lm"})
    with pytest.raises(Unsupported, match=r"older than x86-64-v2: it lacks popcnt sse4_1 sse4_2"):
        settings.level.__wrapped__()
    elsewhere = os.uname_result(("Linux", "host", "6.1", "#1", "aarch64"))
    monkeypatch.setattr(os, "uname", lambda: elsewhere)
    with pytest.raises(Unsupported, match="kernels run on Linux on x86-64, not on Linux on aarch64"):
        settings.level.__wrapped__()
