"""`kvstore top`: the loop around the picture, or a single frame of it.

A live view looks at the server every `interval` seconds, and reads keys between the looks:

    q  quits         p  pauses: the picture stays, nothing is asked
    s  next order    c t m 9 n  order by calls, time, mean, p99, name       r  the other way round

A server that goes away leaves its last picture, with the reason above it; each look tries to connect again.  The view
of the new process has no rates until its second sample.

A frame of `once` has two samples, an interval apart, because rates need two.  It asks for more keys and stores than a
live view, because it has only one chance.
"""

import json
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import closing, contextmanager

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from kvstore.top.drawing import Looks, frame
from kvstore.top.place import Place
from kvstore.top.sampling import GONE, Budget, Sample, Sampler
from kvstore.top.view import ORDERS, View, view_of

ONCE = Budget(keys=256, stores=10)
PLAIN_WIDTH = 120  # of output that is no terminal
KEY_S = 0.1  # how often keys and the window's size are looked at


class State:
    """The state of a live view, and the choices of its reader; does no I/O but that of its sampler."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self.sample: Sample | None = None
        self.view: View | None = None
        self.gone, self._gone_at = "", ""
        self.paused = self.backwards = self.ended = False
        self.order = next(iter(ORDERS))

    def look(self) -> None:
        """Take a sample, unless the view is paused."""
        if self.paused:
            return
        try:
            sample = self.sampler.look()
        except GONE as error:
            self._gone_at = self._gone_at or time.strftime("%H:%M:%S")
            self.gone = f"no answer since {self._gone_at}: {error or type(error).__name__}"
            return
        self.gone = self._gone_at = ""
        self.view, self.sample = view_of(self.sample, sample), sample

    def press(self, key: str) -> bool:
        """Do what a key is for; whether it is for anything."""
        names = list(ORDERS)
        by_key = {one: name for name, one in ORDERS.items()}
        match key:
            case "q" | "Q" | "\x03" | "\x04":
                self.ended = True
            case "p" | " ":
                self.paused = not self.paused
            case "r":
                self.backwards = not self.backwards
            case "s":
                self.order = names[(names.index(self.order) + 1) % len(names)]
            case _ if key in by_key:
                self.order = by_key[key]
            case _:
                return False
        return True

    def picture(self, width: int, height: int) -> RenderableType:
        """The picture at this moment."""
        note = "paused" if self.paused else self.gone
        if self.view is None:
            return Text(f"{self.sampler.place}  {note}")
        looks = Looks(width, height, self.order, self.backwards, note, keys=True)
        return frame(self.view, str(self.sampler.place), looks)


def watch(place: Place, interval_s: float) -> None:
    """Show a live view until its reader quits.  Raises one of GONE if there is no server at the start."""
    console = Console()
    with closing(Sampler(place)) as sampler, _keys() as keys:
        state = State(sampler)
        state.sample = sampler.look()
        state.view = view_of(None, state.sample)
        with Live(console=console, screen=True, auto_refresh=False) as live:
            size, due = console.size, time.monotonic() + interval_s
            live.update(state.picture(*size), refresh=True)
            while not state.ended:
                drawn = False
                if time.monotonic() >= due:
                    state.look()
                    due, drawn = time.monotonic() + interval_s, True
                for key in keys(min(KEY_S, max(0.0, due - time.monotonic()))):
                    drawn |= state.press(key)
                if drawn or console.size != size:
                    size = console.size
                    live.update(state.picture(*size), refresh=True)


@contextmanager
def _keys() -> Iterator["Keys"]:
    # Keys as they are pressed, if there is a keyboard; the terminal is as before afterwards.
    if not sys.stdin.isatty():
        yield Keys(None)
        return
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    tty.setcbreak(number)
    try:
        yield Keys(number)
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


class Keys:
    """The keyboard."""

    def __init__(self, number: int | None) -> None:
        self._number = number

    def __call__(self, wait_s: float) -> str:
        """The keys that are pressed within a time; returns at the first."""
        if self._number is None:
            time.sleep(wait_s)
            return ""
        ready, _, _ = select.select([self._number], [], [], wait_s)
        if not ready:
            return ""
        return os.read(self._number, 64).decode(errors="ignore") or "q"  # the terminal was closed


def once(place: Place, interval_s: float, as_json: bool) -> None:
    """Print one frame.  Raises one of GONE."""
    with closing(Sampler(place)) as sampler:
        before = sampler.look(ONCE)
        time.sleep(interval_s)
        view = view_of(before, sampler.look(ONCE))
    if as_json:
        print(json.dumps(view.as_json(), indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)
    console.print(frame(view, str(place), Looks(console.width)))
