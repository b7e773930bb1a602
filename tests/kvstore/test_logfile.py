"""The log: its marks and levels, a file that is renamed, lines that cannot be written."""

import contextlib
import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore.server.logfile import LEVELS, open_log, set_level


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """The server's log before it is opened."""
    one = logging.getLogger("kvstore")
    level, handlers = one.level, one.handlers[:]
    yield one
    while len(one.handlers) > len(handlers):
        close_last(one)
    one.setLevel(level)


def close_last(log: logging.Logger) -> None:
    handler = log.handlers[-1]
    log.removeHandler(handler)
    with contextlib.suppress(OSError):  # a full disk
        handler.close()


LINE = re.compile(r"\d+:M \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d\.\d{3} ([-.*#]) (.*)")


def test_each_level_has_redis_mark(log: logging.Logger, tmp_path: Path) -> None:
    file = tmp_path / "log"
    open_log(str(file), "debug")
    for level in ("debug", "verbose", "notice", "warning"):
        log.log(LEVELS[level], "%s", level)
    found = [LINE.fullmatch(line) for line in file.read_text().splitlines()]
    assert [match and match.groups() for match in found] == [
        (".", "debug"),
        ("-", "verbose"),
        ("*", "notice"),
        ("#", "warning"),
    ]


def test_a_level_keeps_what_is_at_least_as_important(log: logging.Logger, tmp_path: Path) -> None:
    words = list(LEVELS)
    for index, word in enumerate(words):
        file = tmp_path / word
        open_log(str(file), word)
        for level in words[:-1]:
            log.log(LEVELS[level], "%s", level)
        close_last(log)
        assert [line.split()[-1] for line in file.read_text().splitlines()] == words[index:-1]
    set_level("nothing")
    assert not log.isEnabledFor(logging.CRITICAL)


def test_a_renamed_file_is_opened_again_and_what_cannot_be_written_is_lost(
    log: logging.Logger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "log"
    directory.mkdir()
    file = directory / "server.log"
    open_log(str(file), "notice")
    log.info("first")
    file.rename(directory / "old")
    log.info("second")
    assert (directory / "old").read_text().endswith("first\n")
    assert file.read_text().endswith("second\n")
    shutil.rmtree(directory)
    log.info("lost")
    directory.write_text("now a file")
    log.info("lost")
    directory.unlink()
    directory.mkdir()
    log.info("third")
    assert [line.split()[-1] for line in file.read_text().splitlines()] == ["third"]
    assert capsys.readouterr().err == ""


def test_on_a_full_disk_lines_are_lost(log: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    open_log("/dev/full", "notice")
    log.info("lost")
    log.info("lost")
    assert capsys.readouterr().err == ""


def test_bytes_that_are_no_text_are_shown_as_what_they_are(log: logging.Logger, tmp_path: Path) -> None:
    file = tmp_path / "log"
    open_log(str(file), "notice")
    log.info("%s", b"a\xff\xc3\xa9".decode(errors="surrogateescape"))
    assert file.read_text().endswith("* a\\udcff\u00e9\n")
