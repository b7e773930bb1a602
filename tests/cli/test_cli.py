"""The command line, as a user calls it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server.wire import OK, Wire
from tests.snapshot.test_image_format import image_bytes

ROOT = Path(__file__).resolve().parent.parent.parent


def kvstore(*words: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kvstore", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.mark.parametrize("command", ["serve", "snapshot", "inspect", "info", "top", "fuzz", "bench"])
def test_help_of_each_command_has_an_example(command):
    done = kvstore(command, "--help")
    assert done.returncode == 0
    assert "kvstore " + command in done.stdout


def test_an_unknown_option_names_the_nearest_known():
    done = kvstore("serve", "--maxmemroy", "1gb")
    assert done.returncode != 0
    assert "maxmemory" in done.stderr


def test_an_option_without_a_value_is_refused():
    done = kvstore("serve", "--tcp-keepalive")
    assert done.returncode != 0
    assert "needs a value" in done.stderr


def test_a_snapshot_of_no_server_fails_with_a_reason():
    done = kvstore("snapshot", "--port", "1")
    assert done.returncode != 0
    assert "cannot reach" in done.stderr


def test_fuzz_attacks_with_a_batch_and_keeps_nothing_of_a_sound_store(tmp_path: Path) -> None:
    directory = tmp_path / "found"
    done = kvstore(
        "fuzz", "--seconds", "0", "--keys", "20", "--seed", "3", "--unchecked", "--directory", str(directory)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == ["seed 3", "2,000 inputs, 0 failed"]
    assert not directory.exists()


def test_fuzz_plays_a_kept_file_again(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps({"keys": 5, "seed": 1, "inputs": ["PING\r\n", "\xff\r\n"]}))
    done = kvstore("fuzz", "--unchecked", "--replay", str(kept))
    assert (done.returncode, done.stdout) == (0, "does not fail\n"), done.stderr
    kept.write_text("{}")
    refused = kvstore("fuzz", "--unchecked", "--replay", str(kept))
    assert refused.returncode == 1 and "not a file that a campaign kept" in refused.stderr


def test_inspect_refuses_what_is_no_image(tmp_path):
    path = tmp_path / "dump-0000000001.kvimg"
    path.write_bytes(b"REDIS0011" + bytes(8192))
    done = kvstore("inspect", str(path))
    assert done.returncode != 0
    assert str(path) in done.stderr


def test_snapshot_reports_what_it_wrote_and_inspect_reads_it(cli_server):
    port = str(cli_server.port)
    with Wire(cli_server.address) as connection:
        assert connection("SELECT", "3") == OK
        assert connection("SET", "key", "value") == OK
    done = kvstore("snapshot", "--port", port, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["pages"] > 0 and figures["bytes"] > 4096 * figures["pages"]
    assert figures["pause_us"] > 0
    path = Path(figures["path"])
    seen = kvstore("inspect", str(path), "--json")
    assert seen.returncode == 0, seen.stderr
    assert json.loads(seen.stdout)["pages"] == figures["pages"]
    told = kvstore("inspect", str(path))
    assert told.returncode == 0, told.stderr
    assert "db3  keys=1,expires=0" in told.stdout and "db0" not in told.stdout
    damaged = bytearray(path.read_bytes())
    damaged[4096 + 17] ^= 1
    bad = path.with_name("damaged.bin")
    bad.write_bytes(damaged)
    refused = kvstore("inspect", str(bad))
    assert refused.returncode != 0
    assert "chunk 0" in refused.stderr and "offset 4096" in refused.stderr


def test_info_prints_the_sections_asked_for(cli_server):
    done = kvstore("info", "machine", "--port", str(cli_server.port))
    assert done.returncode == 0, done.stderr
    assert "# Machine" in done.stdout


def test_a_snapshot_that_fails_says_why_and_fails(cli_server):
    cli_server.directory_vanishes()
    done = kvstore("snapshot", "--port", str(cli_server.port))
    assert done.returncode != 0
    assert "no snapshot" in done.stderr


ODD = {
    "a time beyond all calendars": {"forked_unix_us": (1 << 64) - 1},
    "a time before all calendars": {"forked_unix_us": -(1 << 63)},
    "databases that are a number": {"metadata": {"databases": 7}},
    "databases of three words": {"metadata": {"databases": [[1, 2, 3]]}},
    "databases of text": {"metadata": {"databases": [["a", "b"]]}},
    "databases that are a map": {"metadata": {"databases": {"a": 1}}},
    "no metadata": {"metadata": {}},
    "keys of all types": {
        "metadata": {1: b"\xff", None: [1.5, float("nan")], b"k": {"deep": [[[[]]]]}, "e\x1b[2J": "\r\n"}
    },
    "a parent": {"parent": bytes(16)},
}


def test_inspect_prints_a_sentence_for_whatever_an_image_says(tmp_path):
    for number, (what, said) in enumerate(ODD.items()):
        path = tmp_path / f"{number}.kvimg"
        path.write_bytes(image_bytes(bytes(4096), [(0x1000, 1)], **said))
        for options in ([], ["--json"]):
            done = kvstore("inspect", str(path), *options)
            assert (done.returncode, done.stderr) == (0, ""), what
            assert all(line.isprintable() for line in done.stdout.splitlines()), what
            assert not options or json.loads(done.stdout)["pages"] == 1, what


def test_inspect_does_not_wait_for_a_pipe(tmp_path):
    path = tmp_path / "dump-0000000001.kvimg"
    os.mkfifo(path)
    done = kvstore("inspect", str(path), timeout=60)
    assert done.returncode == 1
    assert "it is no regular file" in done.stderr
