"""How the tests are divided among processes: `make test` runs them on all processors, with --dist loadgroup.

A test goes to whichever process is idle, and each process starts the servers of a session for itself.  What a module
makes once for many of its tests, and what takes long to make, it names in DEAR: the tests that use such a fixture all
go to one process.
"""

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests that share a dear fixture into one group."""
    for item in items:
        dear = getattr(getattr(item, "module", None), "DEAR", ())
        shared = [name for name in dear if name in getattr(item, "fixturenames", ())]
        if shared:
            item.add_marker(pytest.mark.xdist_group(f"{item.module.__name__}:{shared[0]}"))  # type: ignore[attr-defined]
