"""Numbers as people read them; a missing one is a dash."""

from datetime import datetime

NONE = "–"


def count(value: float | None) -> str:
    """A whole number with separated thousands, or three digits of a small one."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"


def size(value: float | None) -> str:
    """Bytes."""
    if value is None:
        return NONE
    if value < 1024:
        return f"{value:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        value /= 1024
        if value < 1024 or unit == "PiB":
            break
    return f"{value:.3g} {unit}" if value < 999.5 else f"{value:.0f} {unit}"


def duration(us: float | None) -> str:
    """Microseconds, in the unit that suits."""
    if us is None:
        return NONE
    for most, divisor, unit in ((1e3, 1, "µs"), (1e6, 1e3, "ms"), (120e6, 1e6, "s")):
        if us < most:
            return f"{us / divisor:.3g} {unit}"
    minutes = int(us / 60e6)
    if minutes < 120:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def share(value: float | None) -> str:
    """A fraction as a percentage."""
    return NONE if value is None else f"{100 * value:.1f} %"


def clock(unix_s: float | None) -> str:
    """A time of today as its hour, another one as its date."""
    if unix_s is None:
        return NONE
    try:
        moment = datetime.fromtimestamp(unix_s)
    except (OverflowError, ValueError, OSError):
        return NONE
    return moment.strftime("%H:%M:%S" if moment.date() == datetime.now().date() else "%Y-%m-%d %H:%M")


def printable(text: str, most: int = 200) -> str:
    """Text of a server on one line, without anything that would move a terminal's cursor."""
    shown = text[:most] + ("…" if len(text) > most else "")
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in shown)
