"""Rules of this project that no linter checks."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("mmcore", "snapshot", "kvstore", "bench")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
IO_MODULES = {"socket", "select", "asyncio", "selectors", "threading", "subprocess"}
# Modules of kernels in which a thread spends its life, beside the class that starts it.
MODULES_OF_THREADS = {
    "mmcore/populate.py": {"select", "threading"},
    "mmcore/priority.py": {"threading"},
    "snapshot/gatherer.py": {"select", "threading"},
}


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [p for p in SOURCES if p.read_text().strip()], ids=_name)
def test_a_module_opens_with_its_design_note(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_only_set_entry_stores_into_a_table():
    store = re.compile(r"\.entries\[[^\]]*\]\s*[-+|&^]?=[^=]")
    found = {_name(path): store.findall(path.read_text()) for path in SOURCES}
    allowed = {"mmcore/tables.py", "mmcore/frames.py"}  # set_entry and whole new tables; clearing of free frames
    assert {path for path, stores in found.items() if stores} <= allowed


def test_the_bits_of_an_entry_are_named_in_one_file():
    masks = re.compile(r"0x000F_FFFF_FFFF_F000|0xF_FFFF_FFFF_F000", re.IGNORECASE)
    assert {_name(path) for path in SOURCES if masks.search(path.read_text())} <= {"mmcore/paging.py"}


def _has_kernels(tree: ast.Module) -> bool:
    decorators = (d for node in tree.body if isinstance(node, ast.FunctionDef) for d in node.decorator_list)
    return any("linked" in ast.unparse(d) or ast.unparse(d) == "kernel" for d in decorators)


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_a_module_of_kernels_imports_no_io(path):
    if _name(path).startswith("bench/"):
        return  # the load generator is kernels and process in one
    tree = ast.parse(path.read_text())
    if _has_kernels(tree):
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert imported & IO_MODULES <= MODULES_OF_THREADS.get(_name(path), set())


def test_no_generated_file_is_under_version_control():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a checkout")
    generated = re.compile(r"__pycache__|\.nb[ci]$|\.egg-info|\.kvimg$|^\.venv|^data/")
    assert [path for path in listed.stdout.split() if generated.search(path)] == []


def _versioned() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_nothing_is_left_to_do_and_no_path_is_of_one_machine():
    forbidden = re.compile(r"\b(?:TODO|FIXME|XXX)\b|/(?:home|root|work)/\w|https?://\S*/simple\b")
    texts = [path for path in _versioned() if path.suffix in {".py", ".md", ".toml", ".txt", ""}]
    texts.remove(Path(__file__).resolve())  # it has to name them
    found = {_name(path): forbidden.findall(path.read_text()) for path in texts}
    assert {path: words for path, words in found.items() if words} == {}


def test_no_sentence_begins_with_a_question_word_as_its_subject():
    """Comments, docstrings and documents put the subject first; a title may begin with What."""
    backwards = re.compile(r"(?:^|^ *#  ?|^ *\"\"\"|[.:?!]  ?)(?:What|Whatever|Who) [a-z`].*", re.MULTILINE)
    texts = [path for path in _versioned() if path.suffix in {".py", ".md"}]
    found = {_name(path): backwards.findall(path.read_text()) for path in texts}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_every_file_that_the_documents_name_is_there():
    named = re.compile(
        r"`((?:mmcore|snapshot|kvstore|bench|tests|docs)/[\w/.]+\.(?:py|md|png))|\]\((?!https?:)([\w/.-]+)\)"
    )
    more = re.compile(r"\b((?:mmcore|snapshot|kvstore|bench|tests)/[\w/]+\.py)\b")
    for path in _versioned():
        if path.suffix == ".md":
            text = path.read_text()
            names = {name for pair in named.findall(text) for name in pair if name} | set(more.findall(text))
            missing = {name for name in names if not ((ROOT / name).exists() or (path.parent / name).exists())}
            assert missing == set(), path.name


FILE_LINES, FUNCTION_LINES = 400, 40
# Files and functions that exceed these, and why they stay whole.
LONG = {
    "kvstore/server/server.py": "the process: one class, whose methods are short",
    "kvstore/wire/doubles.py": "reading and printing share the format of a double",
    "kvstore/wire/glob.py": "a compiler and its machine, which share the form of the program",
    "kvstore/commands/info.py:memory_fields": "a list of fields",
    "kvstore/commands/info.py:persistence_fields": "a list of fields",
    "kvstore/commands/memory/memory.py:memory_stats": "a list of fields",
    "kvstore/commands/sortedsets/declarations.py": "a list of declarations",
    "kvstore/commands/keys/deadlines.py:_expire": "its conditions are tested in Redis's order, with an error each",
    "kvstore/commands/keys/moving.py:_rename": "lookups that may delete keys, in an order that matters",
    "kvstore/commands/strings/counting.py:incrbyfloat": "two numbers are read, each with its own error",
    "kvstore/commands/strings/setting.py:set_": "the plain SET returns early, and options follow in Redis's order",
    "kvstore/net/execution.py:execute": "one admission after another, each with its own refusal",
    "kvstore/net/pipeline.py:run_pipeline": "the loop over a pipeline, with its ways out",
    "kvstore/net/receiving.py:receive": "the outcomes of one recv",
    "kvstore/structures/tree/removal.py:_remove": "one descent that joins nodes on its way",
    "kvstore/store/check.py:contents": "one pass over a store, in which the bytes of all parts are added up",
    "kvstore/wire/doubles.py:_digits": "Grisu2 as published",
    "kvstore/wire/glob.py:_compile": "one case for each element of a pattern",
    "kvstore/wire/request.py:parse_inline": "one case for each state of a quoted line",
}


def _long(path: Path) -> list[str]:
    text, found = path.read_text(), []
    if text.count("\n") > FILE_LINES:
        found.append(_name(path))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            documented = ast.get_docstring(node) is not None and len(node.body) > 1
            first = node.body[1 if documented else 0]
            if (node.end_lineno or 0) - first.lineno + 1 > FUNCTION_LINES:
                found.append(f"{_name(path)}:{node.name}")
    return found


def test_a_long_file_or_function_of_the_server_has_a_reason():
    found = {one for path in SOURCES if _name(path).startswith("kvstore/") for one in _long(path)}
    assert found == set(LONG), f"without a reason: {found - set(LONG)}; no longer long: {set(LONG) - found}"
