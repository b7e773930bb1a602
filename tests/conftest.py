"""Hooks and fixtures of all tests.  `make test` runs them on all processors.

A file goes as a whole to one process (--dist loadfile), so that the stores and servers it makes once for many tests are
made once.  Each process starts the servers of a session for itself.  The processes report to the one that collects the
results, in UTF-8.
"""

from collections.abc import Generator
from typing import Any

import pytest


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
