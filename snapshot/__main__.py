"""`python -m snapshot FILE ...`: verify images byte by byte, and print their contents.

    $ python -m snapshot data/dump-0000000042.kvimg
    data/dump-0000000042.kvimg: good
      pages            281,344 in 12 runs, 1,152.4 MB
      ...

The exit status is 0 if every file is good, 1 if one is not (the reason goes to stderr), and 2 for wrong usage.
"""

import argparse
import json
import sys
from typing import Any

from snapshot.describe import describe, moment, text
from snapshot.errors import ImageError
from snapshot.image import Image
from snapshot.reader import verify


def lines(image: Image) -> list[str]:
    """The contents of an image, one fact per line."""
    facts: list[tuple[str, str]] = [
        ("format version", str(image.version)),
        ("identity", image.id.hex()),
        ("parent", image.parent.hex() if image.parent else "none, the image is whole"),
        ("forked", moment(image.forked_unix_us)),
        ("epoch", str(image.epoch)),
        ("pages", f"{image.pages:,} in {len(image.runs):,} runs, {image.data_size / 1e6:,.1f} MB"),
        ("chunks", f"{image.chunk_count:,} of {image.chunk_size:,} bytes, every checksum right"),
        ("file", f"{image.file_size:,} bytes"),
    ]
    if image.repeats:
        runs, page = image.repeats.runs, image.repeats.page
        facts.append(("repeated", f"the page at {page:#x}, {sum(runs.column(1)):,} times in {len(runs):,} runs"))
    facts += [(f"metadata {text(key)}", text(value)) for key, value in image.metadata.items()]
    return [f"  {name:<18} {value}" for name, value in facts]


def main(arguments: list[str] | None = None) -> int:
    """Check the images named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m snapshot", description="Check snapshot images.")
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args(arguments)
    status = 0
    for path in options.files:
        try:
            image = verify(path)
        except ImageError as error:
            status = 1
            if options.json:
                print(json.dumps({"path": path, "good": False, "error": type(error).__name__, "reason": error.reason}))
            else:
                print(error, file=sys.stderr)
            continue
        if options.json:
            said: dict[str, Any] = {"good": True, **describe(image)}
            print(json.dumps(said))
        else:
            print(f"{path}: good", *lines(image), sep="\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
