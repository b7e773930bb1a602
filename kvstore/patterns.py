r"""Redis's glob patterns for names that Python matches: of parameters, commands, sections.

* any text, ? any character, [a-c] [^a-c] one of (or not of) a class, \x the character x itself.  Names of keys are
matched by a kernel, in glob.py.
"""

import re
from functools import lru_cache


@lru_cache(maxsize=256)
def compile_glob(pattern: str) -> re.Pattern[str]:
    """What matches, in any case, a whole name against `pattern`."""
    out, at = "", 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "*":
            out += "" if out.endswith(".*") else ".*"
        elif character == "?":
            out += "."
        elif character == "[":
            text, at = _class(pattern, at)
            out += text
        else:
            if character == "\\" and at < len(pattern):
                character = pattern[at]
                at += 1
            out += re.escape(character)
    return re.compile(out, re.DOTALL | re.IGNORECASE)


def _class(pattern: str, at: int) -> tuple[str, int]:
    # The regular expression for the class that begins behind a [ at `at`, and where the pattern goes on.
    negated = pattern[at : at + 1] == "^"
    at += negated
    members = ""
    while at < len(pattern) and pattern[at] != "]":
        if pattern[at] == "\\" and at + 1 < len(pattern):
            at += 1
            members += re.escape(pattern[at])
        elif pattern[at + 1 : at + 2] == "-" and at + 2 < len(pattern):
            low, high = sorted((pattern[at], pattern[at + 2]))
            members += f"{re.escape(low)}-{re.escape(high)}"
            at += 2
        else:
            members += re.escape(pattern[at])
        at += 1
    if not members:
        return ("." if negated else "(?!)"), at + 1
    return f"[{'^' if negated else ''}{members}]", at + 1
