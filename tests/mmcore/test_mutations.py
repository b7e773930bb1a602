"""The suite notices when a rule of the machine is turned off.

Each mutation takes one rule out of a copy of the sources, by a piece of text that stands there once, so that a
mutation whose text has moved on is an error and not a pass.  Then the quick part of this suite runs on the copy,
without the compiler, and has to fail; on an unchanged copy it passes.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from mmcore.tables import VERIFY

ROOT = Path(__file__).parents[2]
QUICK = (
    "tests/mmcore/test_invariants.py",
    "tests/mmcore/test_counters.py",
    "tests/mmcore/test_psc.py",
    "tests/mmcore/test_changed.py",
    "tests/mmcore/test_unshare.py",
    "tests/mmcore/test_streams.py::test_spaces_behave_as_deep_copies[0-mixed]",
    "tests/mmcore/test_streams.py::test_spaces_with_huge_pages_behave_as_deep_copies[300-mixed]",
)
PASSED, FAILED = 0, 1  # pytest's codes; more is an error of another kind

pytestmark = pytest.mark.skipif(VERIFY, reason="runs without the compiler in any case; once is enough")


class Mutation(NamedTuple):
    file: str
    text: str
    instead: str


COPY_ONLY = "    copy_bytes(mem.bytes, target << PAGE_SHIFT, mem.bytes, source << PAGE_SHIFT, PAGE_SIZE)\n"
COPY = "    protect_children(mem, source)\n" + COPY_ONLY
MUTATIONS = {
    # write-protect both copies
    "neither copy of a table is write-protected": Mutation("tables.py", "    protect_children(mem, source)\n", ""),
    "the old copy of a table is not write-protected": Mutation(
        "tables.py", COPY, COPY_ONLY + "    protect_children(mem, target)\n"
    ),
    "the new copy of a table is not write-protected": Mutation(
        "tables.py", COPY, COPY_ONLY + "    protect_children(mem, source)\n"
    ),
    "a shared huge page is not write-protected in the parent": Mutation(
        "tables.py", "    set_entry(mem, source, entry)\n", ""
    ),
    # count children on copy
    "the children of a copied table are not counted": Mutation(
        "tables.py", "            mem.refcount[frame_of(entry)] += 1\n", "            pass\n"
    ),
    "a shared huge page is not counted": Mutation(
        "tables.py", "    mem.refcount[frame_of(entry)] += 1\n    set_entry(mem, source", "    set_entry(mem, source"
    ),
    # flush on fork
    "a fork does not flush the TLB": Mutation("fork.py", "    tlb_flush(space)\n    return root", "    return root"),
    # the fault
    "a copied table keeps the old one's count": Mutation(
        "fault.py",
        "    set_entry(mem, slot, entry_for(copy, flags_of(entry) | RW))\n    mem.refcount[frame] -= 1\n",
        "    set_entry(mem, slot, entry_for(copy, flags_of(entry) | RW))\n",
    ),
    "a copied page keeps the old one's count": Mutation(
        "fault.py",
        "    set_entry(mem, slot, entry_for(copy, flags))\n    mem.refcount[frame] -= 1\n",
        "    set_entry(mem, slot, entry_for(copy, flags))\n",
    ),
    "a copied huge page keeps the old one's count": Mutation("fault.py", "    run_drop(mem, head)\n", ""),
    "a copied page is empty": Mutation("fault.py", "    frame_copy(mem, copy, frame)\n", ""),
    "a copied huge page leaves stale translations": Mutation(
        "fault.py", "    tlb_flush(space)  # it may have translations for any of the 512 pages\n", ""
    ),
    "a fault counts the first copy only": Mutation("fault.py", "if copies > 0 or mem.", "if mem."),
    "a path that was written is not stamped": Mutation(
        "fault.py", "        mem.epoch[frame] = stamp\n        if entry &", "        if entry &"
    ),
    "an older table keeps the rights of its children": Mutation(
        "fault.py", "            protect_children(mem, frame)\n", "            pass\n"
    ),
    "a split page keeps the rights of an earlier epoch": Mutation(
        "fault.py", "    if stamp < space.cpu[EPOCH]:\n        flags &= WRITE_PROTECT\n", ""
    ),
    "a write sets no D": Mutation("fault.py", "(TRACES if last and written != 0 else A)", "A"),
    # epochs
    "a fork ends no epoch": Mutation("fork.py", "    mem.frames[LAST_EPOCH] += 1\n", ""),
    "a moved page is not stamped": Mutation(
        "mapping.py", "    mem.epoch[frame] = max(mem.epoch[frame], space.cpu[EPOCH])\n", ""
    ),
    # mapping, release, unsharing
    "an unmapped page stays in the TLB": Mutation("mapping.py", "            invlpg(space, page)\n", ""),
    "a moved page stays in the TLB": Mutation("mapping.py", "            invlpg(space, old)\n", ""),
    "dropped tables stay in the TLB": Mutation(
        "mapping.py", "    if count >= _FLUSH_PAGES:\n        tlb_flush(space)\n", ""
    ),
    "an unmapping copies no shared table": Mutation("mapping.py", "    table = own_table(space, va)\n", ""),
    "an empty table stays": Mutation("mapping.py", "    prune(space, va)\n    return stop\n", "    return stop\n"),
    "a release empties tables that others have": Mutation(
        "release.py", "if level > 1 and mem.refcount[child] == 1:", "if level > 1:"
    ),
    "a fork does not send the unsharing back to the start": Mutation("fork.py", "    cpu[UNSHARED_TO] = 0\n", ""),
}


def outcome(folder: Path, mutation: Mutation | None) -> subprocess.CompletedProcess[str]:
    """Run the quick part of the suite on a copy of the sources."""
    for package in ("mmcore", "tests/mmcore", "tests/model"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tests/__init__.py", folder / "tests")
    shutil.copy(ROOT / "pyproject.toml", folder)
    if mutation:
        file = folder / "mmcore" / mutation.file
        source = file.read_text()
        assert source.count(mutation.text) == 1, f"not once in {mutation.file}: {mutation.text!r}"
        file.write_text(source.replace(mutation.text, mutation.instead))
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *QUICK],
        cwd=folder,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_the_machine_as_it_is_passes(tmp_path: Path) -> None:
    result = outcome(tmp_path, None)
    assert result.returncode == PASSED, result.stdout


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_is_noticed(name: str, tmp_path: Path) -> None:
    result = outcome(tmp_path, MUTATIONS[name])
    assert result.returncode == FAILED, result.stdout
