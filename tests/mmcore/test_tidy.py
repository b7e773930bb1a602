"""Rules of this package that no type checker knows."""

import ast
import re
from pathlib import Path

import pytest

import mmcore

FILES = sorted(path for folder in ("", "heap") for path in (Path(mmcore.__file__).parent / folder).glob("*.py"))
ALLOWED = {"numpy", "mmcore", "typing", "collections", "dataclasses", "enum", "types"}
BY_FILE = {
    "__init__.py": {"importlib"},
    "giveback.py": {"ctypes"},
    "state.py": {"dataclasses"},
    "populate.py": {"os", "select", "threading"},
    "priority.py": {"contextlib", "os", "threading"},
    "memory.py": {"mmap", "operator"},
    "release.py": {"operator"},
    "space.py": {"importlib", "operator"},
}


def test_only_set_entry_stores_into_entries() -> None:
    stores = []
    for file in FILES:
        for function in ast.walk(ast.parse(file.read_text())):
            if isinstance(function, ast.FunctionDef):
                targets = [
                    target
                    for node in ast.walk(function)
                    if isinstance(node, ast.Assign | ast.AugAssign)
                    for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
                ]
                arrays = [ast.unparse(each.value) for each in targets if isinstance(each, ast.Subscript)]
                if any(re.search(r"\bentries$", array) for array in arrays):
                    stores.append((file.name, function.name))
    assert stores == [("tables.py", "set_entry")]


def test_bits_of_entries_live_in_paging_only() -> None:
    for file in FILES:
        if file.name != "paging.py":
            assert not re.search(r"np\.uint64\(1 <<|0x000F_FFFF", file.read_text()), file.name


def test_the_machine_knows_nothing_of_what_is_built_on_it() -> None:
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                assert name.split(".")[0] in ALLOWED | BY_FILE.get(file.name, set()), f"{file.name} imports {name}"


def test_every_module_opens_with_its_design() -> None:
    for file in FILES:
        assert ast.get_docstring(ast.parse(file.read_text())), file.name


def test_only_the_tool_chain_names_the_compiler() -> None:
    for file in Path(mmcore.__file__).parent.parent.rglob("*.py"):
        package = file.relative_to(Path(mmcore.__file__).parent.parent).parts[:2]
        if package[0] in ("mmcore", "snapshot", "kvstore", "bench") and package != ("mmcore", "jit"):
            named = re.findall(r"^\s*(?:from|import) (numba|llvmlite)\b", file.read_text(), re.MULTILINE)
            assert named == [], file


DECLARED = sorted(Path(mmcore.__file__).parent.parent.glob("*/linked_kernels.txt"))


@pytest.mark.parametrize("file", DECLARED, ids=lambda file: file.parent.name)
def test_a_package_declares_every_module_that_has_linked_kernels(file: Path) -> None:
    linked = re.compile(r"^\s*@(?:jit\.)?linked\(", re.MULTILINE)
    modules = [
        path for path in file.parent.rglob("*.py") if path.parent.name != "jit" and linked.search(path.read_text())
    ]
    names = sorted(".".join(path.relative_to(file.parent.parent).with_suffix("").parts) for path in modules)
    assert file.read_text().split() == names


def test_everything_exported_is_there_and_sorted() -> None:
    assert sorted(mmcore.__all__) == mmcore.__all__
    assert all(hasattr(mmcore, name) for name in mmcore.__all__)
