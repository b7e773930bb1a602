"""Distribution of the tests among processes: `make test` runs them on all processors, with --dist loadgroup.

A test goes to any idle process, and each process starts the servers of a session for itself.  A module lists in DEAR
the fixtures that it makes once for many tests and that are expensive: all tests that use such a fixture go to one
process.  The processes report to the one that collects the results, in UTF-8.
"""

from collections.abc import Generator
from typing import Any

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests that share a dear fixture into one group."""
    for item in items:
        dear = getattr(getattr(item, "module", None), "DEAR", ())
        shared = [name for name in dear if name in getattr(item, "fixturenames", ())]
        if shared:
            item.add_marker(pytest.mark.xdist_group(f"{item.module.__name__}:{shared[0]}"))  # type: ignore[attr-defined]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape bytes that are not UTF-8: names of parameters, and files in logs, may hold them; a report must not."""
    report = yield
    report.sections = [(_sendable(name), _sendable(text)) for name, text in report.sections]
    text = str(report.longrepr or "")
    if text != _sendable(text):
        longrepr: Any = _sendable(text)
        report.longrepr = longrepr
    return report


def _sendable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()
