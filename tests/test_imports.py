"""The arrows of the architecture: bench -> kvstore -> snapshot -> mmcore, and never back."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("mmcore", "snapshot", "kvstore", "bench")  # each may import those before it


def _imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found & set(LAYERS)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_what_stands_below_it(layer):
    allowed = set(LAYERS[: LAYERS.index(layer) + 1])
    sources = sorted((ROOT / layer).rglob("*.py"))
    assert sources
    wrong = {str(path.relative_to(ROOT)): _imported(path) - allowed for path in sources}
    assert {path: names for path, names in wrong.items() if names} == {}


@pytest.mark.parametrize(
    ("first", "kept_out"),
    [
        ("kvstore.cli", ("mmcore",)),  # another command needs no kernel
        (
            "kvstore.startup",
            ("mmcore.space", "mmcore.check", "kvstore.loop", "kvstore.server"),
        ),  # it reads ahead of them
    ],
)
def test_what_begins_early_imports_little(first: str, kept_out: tuple[str, ...]):
    waiting, seen = [first], set()
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        path = ROOT.joinpath(*module.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        for node in ast.parse(path.read_text()).body:  # imports within functions come later
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in LAYERS:
                waiting.append(node.module)
                waiting.append(node.module.split(".")[0])
    assert not {module for module in seen if module.startswith(kept_out)}
