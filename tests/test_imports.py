"""The architecture's arrows: bench -> kvstore -> snapshot -> mmcore, those between kvstore's rooms, and no cycles."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("mmcore", "snapshot", "kvstore", "bench")  # each may import those before it
ROOMS = {  # of a layer: likewise
    "kvstore": (
        "lifetimes", "system", "structures", "wire", "config", "connections", "effects", "observe", "store",
        "branches", "durable", "commands", "net", "fuzz", "server", "top", "cli", "testing",
    ),
    "bench": ("reporting", "rig", "paging", "serving", "values", "forks"),
}  # fmt: skip
FRONT_DOORS = ("__init__", "__main__", "cli", "options")  # modules beside the rooms, which rooms may not import
SHARED = {"bench.options"}  # except these


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


def _modules(folder: Path) -> dict[str, set[str]]:
    """The modules below a folder, each with its imports, at the top or in a function, except imports for types."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in folder.rglob("*.py")}
    found: dict[str, set[str]] = {}
    for name, path in names.items():
        imported: set[str] = set()
        tree = ast.parse(path.read_text())
        for_types = {
            id(inner)
            for node in tree.body
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and id(node) not in for_types:
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                imported |= {one if one in names else node.module for one in inner}
        found[name] = imported & set(names)
    return found


@pytest.mark.parametrize("layer", ROOMS)
def test_a_room_imports_only_what_stands_before_it(layer: str) -> None:
    rooms = ROOMS[layer]
    folders = {path.name for path in (ROOT / layer).iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(rooms)
    wrong = []
    for module, imported in _modules(ROOT / layer).items():
        room = module.split(".")[1]
        if room not in rooms:  # a front door
            assert room in FRONT_DOORS
            continue
        allowed = rooms[: rooms.index(room) + 1]
        wrong += [(module, other) for other in imported - SHARED if other.split(".")[1] not in allowed]
    assert wrong == []


@pytest.mark.parametrize("layer", LAYERS)
def test_there_is_no_circle_of_modules(layer: str) -> None:
    imported = _modules(ROOT / layer)
    while True:
        free = {module for module, others in imported.items() if not others & set(imported)}
        if not free:
            break
        imported = {module: others for module, others in imported.items() if module not in free}
    assert sorted(imported) == []


@pytest.mark.parametrize(
    ("first", "kept_out"),
    [
        ("kvstore.cli.commandline", ("mmcore",)),  # another command needs no kernel
        ("kvstore.testing.plugin", ("mmcore", "kvstore.wire", "kvstore.testing.server")),  # most sessions need nothing
        ("kvstore.testing.branches", ("mmcore", "kvstore.server")),  # nor do clients need a kernel
        ("kvstore.testing.embedded", ("mmcore", "kvstore.server")),
        (
            "kvstore.durable.startup",
            ("mmcore.memory", "mmcore.space", "mmcore.check", "kvstore.net.loop", "kvstore.server.server"),
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
