"""The files in docs/testing.md, run by pytest as a user would run them."""

import re

import pytest

from mmcore.jit import DISABLED
from tests.test_docs import ROOT, files
from tests.testing.test_plugin import INI, NO_ASYNCIO, PLUGIN

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.skipif(DISABLED, reason="the server is not run without the compiler")
DOCUMENT = ROOT / "docs" / "testing.md"
FEW = "import hypothesis\nhypothesis.settings.register_profile('few', max_examples=20)\n"


def test_the_files_of_the_document_pass_and_the_planted_bug_is_found(pytester: pytest.Pytester) -> None:
    found = files(DOCUMENT)
    for name, text in found.items():
        pytester.path.joinpath(name).write_text(text)
    pytester.makeini(INI.replace("-p no:hypothesispytest", ""))
    pytester.makepyfile(few=FEW)
    words = ("-p", "few", "--hypothesis-profile", "few", "--hypothesis-seed", "0")
    result = pytester.runpytest_subprocess(*PLUGIN, *NO_ASYNCIO, *words)
    tests = sum(text.count("\ndef test_") for text in found.values())
    result.assert_outcomes(passed=tests - 1, failed=1)
    (shown,) = re.findall(r"^```text\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("E").strip().replace("pear", "apple") for line in result.outlines]  # either is as short
    first = lines.index("state = CartMachine()")
    assert lines[first : first + shown.count("\n")] == shown.splitlines()
