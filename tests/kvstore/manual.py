"""Turns the arguments in COMMAND DOCS back into the line of syntax in Redis's manual."""

from collections.abc import Iterator
from typing import Any

from kvstore.wire.syntax import parse, walk

Described = dict[str, Any]


def syntax_of(arguments: list[Described]) -> str:
    """The line of syntax."""
    return " ".join(_text(argument) for argument in arguments)


def annotations(arguments: list[Described]) -> dict[str, Any]:
    """The facts that the line cannot express, in the form that `parse` takes: names of groups, types, versions."""
    listed = list(_walk(arguments))
    groups = tuple(one["name"] for one in listed if one["type"] in ("oneof", "block"))
    plain = {one.name: one.type for one in walk(parse(syntax_of(arguments), groups)) if not one.arguments}
    return {
        "groups": groups,
        "types": {
            one["name"]: one["type"]
            for one in listed
            if one["type"] not in ("oneof", "block", "pure-token") and plain.get(one["name"]) != one["type"]
        },
        "names": {
            one["token"]: one["name"]
            for one in listed
            if one["type"] == "pure-token" and one["name"] != one["token"].lower()
        },
        "added": {one.get("token") or one["name"]: one["since"] for one in listed if "since" in one},
        "deprecated": {
            one.get("token") or one["name"]: one["deprecated_since"] for one in listed if "deprecated_since" in one
        },
    }


def _walk(arguments: list[Described]) -> Iterator[Described]:
    for argument in arguments:
        yield argument
        yield from _walk(argument.get("arguments", []))


def _text(argument: Described) -> str:
    flags, kind = set(argument.get("flags", ())), argument["type"]
    token = argument.get("token", "") if kind != "pure-token" else ""
    once = _once(argument, bool(token), flags)
    text = f"{token} {once}".strip()
    if "multiple" in flags and kind == "oneof":
        text = f"{text} ..."
    elif "multiple" in flags:
        text = f"{text} [{text if 'multiple_token' in flags else once} ...]"
    if "optional" not in flags:
        return text
    return f"[{text}]"


def _once(argument: Described, tokened: bool, flags: set[str]) -> str:
    kind, members = argument["type"], argument.get("arguments", [])
    if kind == "oneof":
        inner = " | ".join(map(_text, members))
        return inner if "optional" in flags and not tokened and "multiple" not in flags else f"<{inner}>"
    if kind == "block":
        plain = len(members) > 1 and not (tokened and ("optional" not in flags or "multiple" in flags))
        first, *others = members
        if plain and first.get("token") and first["type"] != "pure-token" and not any("token" in one for one in others):
            plain = False  # its token would be that of the block
        inner = " ".join(map(_text, members))
        return inner if plain else f"<{inner}>"
    return str(argument["token"] if kind == "pure-token" else argument["name"])
