"""The suite notices when a rule of the machine is turned off.

Each mutation takes one rule out of a copy of the sources, by a piece of text that stands there once, so that a
mutation whose text has moved on is an error and not a pass.  Then the test that is said to notice it runs on the copy,
without the compiler, and has to fail; on an unchanged copy all of those tests pass.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from mmcore.tables import VERIFY

ROOT = Path(__file__).parents[2]
# These tests need no plugin, and plugins are the larger part of a start.
WITHOUT_COMPILER = {"NUMBA_DISABLE_JIT": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
PASSED, FAILED = 0, 1  # pytest's codes; more is an error of another kind

pytestmark = pytest.mark.skipif(VERIFY, reason="runs without the compiler in any case; once is enough")


class Mutation(NamedTuple):
    file: str
    text: str
    instead: str
    noticed_by: str  # a test of this folder


COPY_ONLY = "    copy_bytes(mem.bytes, target << PAGE_SHIFT, mem.bytes, source << PAGE_SHIFT, PAGE_SIZE)\n"
PROTECTION = "        protect_children(mem, source)\n"
COPY = "    if _has_rights(mem, source):  # otherwise its cache lines stay clean\n" + PROTECTION + COPY_ONLY
# Tests that notice several of them, within milliseconds.
COUNTS = "test_invariants.py::test_invariant_1_a_count_is_the_entries_and_roots_that_point_at_a_frame"
NO_STORE = "test_invariants.py::test_invariant_2_a_shared_frame_gets_no_store[0]"
HUGE_PAGE = "test_invariants.py::test_invariant_9_a_huge_page_is_an_aligned_run_whose_head_counts_for_it"
TAKEN_BACK = "test_invariants.py::test_a_table_taken_back_without_a_copy_still_stamps_what_is_written"
CHARGES = "test_charges.py::test_a_copy_is_paid_for_by_its_writer_and_the_old_page_by_its_own"
COUNTED_ONCE = "test_invariants.py::test_invariant_4_pages_below_a_shared_table_are_counted_once_by_it"
RELEASE = "test_invariants.py::test_invariant_7_a_frozen_root_is_released_by_its_owner_in_steps"
MUTATIONS = {
    # who pays
    "a frame that is freed stays charged": Mutation("frames.py", "        uncharge(mem, frame, 1)\n", "", CHARGES),
    "the account at hand gets what another has paid for": Mutation(
        "charges.py",
        "    account = mem.payer[frame]\n    left",
        "    account = mem.frames[CHARGED]\n    left",
        CHARGES,
    ),
    # write-protect both copies
    "neither copy of a table is write-protected": Mutation("tables.py", PROTECTION, "        pass\n", COUNTS),
    "the old copy of a table is not write-protected": Mutation(
        "tables.py", COPY, COPY_ONLY + "    protect_children(mem, target)\n", COUNTS
    ),
    "the new copy of a table is not write-protected": Mutation(
        "tables.py", COPY, COPY_ONLY + "    protect_children(mem, source)\n", COUNTS
    ),
    "a shared huge page is not write-protected in the parent": Mutation(
        "tables.py", "    set_entry(mem, source, entry)\n", "", HUGE_PAGE
    ),
    # count children on copy
    "the children of a copied table are not counted": Mutation(
        "tables.py", "            mem.refcount[frame_of(entry)] += 1\n", "            pass\n", COUNTS
    ),
    "a shared huge page is not counted": Mutation(
        "tables.py",
        "    mem.refcount[frame_of(entry)] += 1\n    set_entry(mem, source",
        "    set_entry(mem, source",
        HUGE_PAGE,
    ),
    # flush on fork
    "a fork does not flush the TLB": Mutation(
        "fork.py", "    tlb_flush(space)\n    return root", "    return root", COUNTS
    ),
    # the fault
    "a copied table keeps the old one's count": Mutation(
        "fault.py",
        "    set_entry(mem, slot, entry_for(copy, flags_of(entry) | RW))\n    mem.refcount[frame] -= 1\n",
        "    set_entry(mem, slot, entry_for(copy, flags_of(entry) | RW))\n",
        COUNTS,
    ),
    "a copied page keeps the old one's count": Mutation(
        "fault.py",
        "    set_entry(mem, slot, entry_for(copy, flags))\n    mem.refcount[frame] -= 1\n",
        "    set_entry(mem, slot, entry_for(copy, flags))\n",
        COUNTS,
    ),
    "a copied huge page keeps the old one's count": Mutation("fault.py", "    run_drop(mem, head)\n", "", HUGE_PAGE),
    "a copied page is empty": Mutation(
        "fault.py",
        "    frame_copy(mem, copy, frame)\n",
        "",
        "test_streams.py::test_spaces_behave_as_deep_copies[0-mixed]",
    ),
    "a copied huge page leaves stale translations": Mutation(
        "fault.py",
        "    tlb_flush(space)  # it may have translations for any of the 512 pages\n",
        "",
        "test_psc.py::test_a_huge_page_copied_by_a_write_is_served_no_more[0]",
    ),
    "a fault counts the first copy only": Mutation(
        "fault.py",
        "if copies > 0 or mem.",
        "if mem.",
        "test_invariants.py::test_invariant_5_a_fault_that_runs_out_of_frames_leaves_the_mapping[1]",
    ),
    "a path that was written is not stamped": Mutation(
        "fault.py", "        mem.epoch[frame] = stamp\n        if entry &", "        if entry &", COUNTS
    ),
    "an older table keeps the rights of its children": Mutation(
        "fault.py", "            protect_children(mem, frame)\n", "            pass\n", TAKEN_BACK
    ),
    "a split page keeps the rights of an earlier epoch": Mutation(
        "fault.py",
        "    if stamp < space.cpu[EPOCH]:\n        flags &= WRITE_PROTECT\n",
        "",
        "test_changed.py::test_a_part_of_a_split_huge_page_changes_by_itself",
    ),
    "a write sets no D": Mutation("fault.py", "(TRACES if last and written != 0 else A)", "A", NO_STORE),
    # epochs
    "a fork ends no epoch": Mutation("fork.py", "    mem.frames[LAST_EPOCH] += 1\n", "", TAKEN_BACK),
    "a moved page is not stamped": Mutation(
        "mapping.py",
        "    mem.epoch[frame] = max(mem.epoch[frame], space.cpu[EPOCH])\n",
        "",
        "test_changed.py::test_what_is_written_mapped_or_moved_after_a_fork_and_nothing_else[False-0]",
    ),
    "a table that moved whole tells its pages' epoch to nobody": Mutation(
        "mapping.py",
        "    set_entry(mem, target, entry | WHOLE)\n",
        "    set_entry(mem, target, entry)\n",
        "test_share.py::test_what_was_shared_or_moved_has_changed_in_that_epoch_only[False-0]",
    ),
    "pages below a table that moved count as changed in every later epoch": Mutation(
        "fault.py",
        "            stamp_pages(mem, slot)\n",
        "            pass\n",
        "test_share.py::test_what_was_shared_or_moved_has_changed_in_that_epoch_only[False-0]",
    ),
    "an older table is shared without a stamp": Mutation(
        "share.py",
        "        own_path(space, old, 1)  # stamps it\n",
        "        pass\n",
        "test_share.py::test_what_was_shared_or_moved_has_changed_in_that_epoch_only[False-0]",
    ),
    # mapping, sharing, release, unsharing
    "sharing leaves translations for writes": Mutation(
        "share.py",
        "    tlb_flush(space)  # (6)",
        "    # (6)",
        "test_share.py::test_a_translation_for_writing_does_not_survive",
    ),
    "an unmapped page stays in the TLB": Mutation("mapping.py", "            invlpg(space, page)\n", "", NO_STORE),
    "a moved page stays in the TLB": Mutation(
        "mapping.py", "            invlpg(space, old)\n", "", "test_counters.py::test_moving_pages_copies_none"
    ),
    "dropped tables stay in the TLB": Mutation(
        "mapping.py",
        "    if count >= _FLUSH_PAGES:\n        tlb_flush(space)\n",
        "",
        "test_invariants.py::test_a_block_of_shared_tables_is_dropped_without_a_copy_and_leaves_the_tlb",
    ),
    "an unmapping copies no shared table": Mutation("mapping.py", "    table = own_table(space, va)\n", "", HUGE_PAGE),
    "an empty table stays": Mutation(
        "mapping.py",
        "    prune(space, va)\n    return stop\n",
        "    return stop\n",
        "test_invariants.py::test_check_memory_notices_a_lost_frame_and_one_free_twice",
    ),
    "a release empties tables that others have": Mutation(
        "release.py", "_drop_shared(mem, table, index, end)\n", "index\n", COUNTED_ONCE
    ),
    "a release keeps the references to shared pages": Mutation(
        "release.py", "        counts[child] = count - 1\n", "        pass\n", RELEASE
    ),
    "a release keeps the pages that nobody shares": Mutation(
        "release.py", "        frame_drop(mem, child)\n", "        pass\n", RELEASE
    ),
    "a step of a release leaves entries to what it has dropped": Mutation(
        "release.py", "        clear_children(mem, table, first, index)\n", "        pass\n", RELEASE
    ),
    "a fork does not send the unsharing back to the start": Mutation(
        "fork.py", "    cpu[UNSHARED_TO] = 0\n", "", "test_unshare.py::test_a_fork_sends_it_back_to_the_start[1]"
    ),
}


# Runs tests in a child for each line of its input, `folder TAB test TAB test ...`, and prints the code the child ends
# with.  Imports are the larger part of such a run, so the children share the imports that no mutation changes.
RUNNER = """
import os, sys
import numpy, pytest, _pytest.assertion.rewrite, _pytest.python, _pytest.terminal

for line in sys.stdin:
    folder, *tests = line.rstrip("\\n").split("\\t")
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        sys.path.insert(0, folder)
        for stream in (1, 2):
            os.dup2(os.open("output", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        os._exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", *tests]))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """The process that runs tests on copies of the sources."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | WITHOUT_COMPILER
    with subprocess.Popen(
        [sys.executable, "-c", RUNNER],
        cwd=tmp_path_factory.mktemp("runner"),
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        assert process.stdin
        process.stdin.close()


def outcome(
    runner: subprocess.Popen[str], folder: Path, tests: Iterable[str], mutation: Mutation | None = None
) -> tuple[int, str]:
    """Run some tests of this folder on a copy of the sources: (pytest's code, its output)."""
    for package in ("mmcore", "tests/mmcore", "tests/model"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tests/__init__.py", folder / "tests")
    shutil.copy(ROOT / "pyproject.toml", folder)
    if mutation:
        file = folder / "mmcore" / mutation.file
        source = file.read_text()
        assert source.count(mutation.text) == 1, f"not once in {mutation.file}: {mutation.text!r}"
        file.write_text(source.replace(mutation.text, mutation.instead))
    assert runner.stdin and runner.stdout
    print(folder, *(f"tests/mmcore/{one}" for one in tests), sep="\t", file=runner.stdin, flush=True)
    code = int(runner.stdout.readline())
    return code, (folder / "output").read_text()


def test_the_machine_as_it_is_passes(runner: subprocess.Popen[str], tmp_path: Path) -> None:
    code, output = outcome(runner, tmp_path, sorted({mutation.noticed_by for mutation in MUTATIONS.values()}))
    assert code == PASSED, output


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_is_noticed(runner: subprocess.Popen[str], name: str, tmp_path: Path) -> None:
    code, output = outcome(runner, tmp_path, [MUTATIONS[name].noticed_by], MUTATIONS[name])
    assert code == FAILED, output
