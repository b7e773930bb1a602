"""Runs the Python blocks of the documents, from top to bottom; their output must be the output that they show.

A document's blocks share one namespace.  A block of `>>>` lines is a doctest; any other block is run unchanged.
"""

import doctest
import re
from pathlib import Path

import pytest
import redis

from kvstore.commands.branches.declarations import COMMANDS
from mmcore.jit import DISABLED
from tests.harness import Process

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted((ROOT / "docs").glob("*.md"))
NEED_A_SERVER = ("branches.md", "testing.md")
FILE_NAME = re.compile(r"# ([\w/]+\.py)\n")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(document: Path) -> list[tuple[int, str]]:
    """(number of its first line, from 0; text) of each Python block, except files."""
    text = document.read_text()
    found = [(text.count("\n", 0, found.start(1)), found[1]) for found in BLOCK.finditer(text)]
    return [one for one in found if not FILE_NAME.match(one[1])]


def files(document: Path) -> dict[str, str]:
    """The blocks that are files, by their names: those that begin with a name as a comment."""
    texts = BLOCK.findall(document.read_text())
    return {named[1]: text for text in texts if (named := FILE_NAME.match(text))}


def run_blocks(document: Path, scope: dict[str, object]) -> int:
    """Run a document's blocks in `scope`; returns how many examples and plain blocks there were."""
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    said: list[str] = []
    count = 0
    for line, text in blocks(document):
        if ">>> " in text:
            test = doctest.DocTestParser().get_doctest(text, scope, document.name, str(document), line)
            runner.run(test, out=said.append, clear_globs=False)
            scope.update(test.globs)  # the test has a copy
            count += len(test.examples)
        else:
            exec(compile("\n" * line + text, str(document), "exec"), scope)
            count += 1
    assert not runner.failures, "".join(said)
    return count


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_tells_what_is_so(document: Path) -> None:
    if DISABLED and document.name in NEED_A_SERVER:
        pytest.skip("the server is not run without the compiler")
    assert run_blocks(document, {}) == sum(max(text.count(">>> "), 1) for _, text in blocks(document))


def test_the_tutorial_has_examples() -> None:
    assert len(blocks(ROOT / "docs" / "machine.md")) > 10


def test_every_command_of_branches_is_described() -> None:
    text = " ".join((ROOT / "docs" / "branches.md").read_text().split())
    names = [one.name.upper().replace("|", " ") for command in COMMANDS for one in command.subcommands]
    assert {name for name in names if name not in text} == {"BRANCH HELP", "SNAPSHOT HELP"}


def test_a_wrong_output_is_noticed(tmp_path: Path) -> None:
    document = tmp_path / "wrong.md"
    document.write_text("# Sum\n\n```python\n>>> a = 1\n>>> a\n1\n```\n\nand\n\n```python\n>>> a + 1\n3\n```\n")
    with pytest.raises(AssertionError, match="line 12"):
        run_blocks(document, {})


def _of_port(port: int) -> type[redis.Redis]:
    # Clients that reach this port unless they are told another one.
    class Here(redis.Redis):
        def __init__(self, **keywords: object) -> None:
            super().__init__(**{"port": port, **keywords})  # type: ignore[arg-type]

    return Here


@pytest.mark.skipif(DISABLED, reason="the server is not run without the compiler")
def test_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with Process("kvstore", tmp_path) as server:
        monkeypatch.setattr(redis, "Redis", _of_port(server.port))
        scope: dict[str, object] = {}
        assert run_blocks(ROOT / "README.md", scope) == 4
        connection = scope["r"]
        assert isinstance(connection, redis.Redis)
        connection.close()
    printed = capsys.readouterr().out
    assert "[1, True]" in printed and "'pages_copied': 1" in printed
