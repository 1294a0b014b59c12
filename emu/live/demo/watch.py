"""The clock and the screen of a demonstration: whoever waits does it here, so that the picture never stands still."""

import time
from collections.abc import Callable
from typing import Protocol

from msgspec.structs import replace

from emu.live.demo.view import DemoView, WorldView
from emu.live.state import LiveState, SharedWords
from emu.live.status.real_host import RealHostReader

UPDATE_SECONDS = 0.25
GLANCE_SECONDS = 0.02


class Screen(Protocol):
    """Whoever shows the worlds."""

    def update(self, view: DemoView) -> None:
        """Show how it stands."""


class Watch:
    """Waits, and shows how the worlds stand four times a second."""

    def __init__(self, title: str, worlds: list[WorldView], limit_seconds: float, screen: Screen | None) -> None:
        """The demonstration's clock starts; in a test there may be no screen."""
        self._title = title
        self._screen = screen
        self._began = time.monotonic()
        self._limit_seconds = limit_seconds
        self._shown = 0.0
        self._writing_since: float | None = None
        self._words: SharedWords | None = None
        self._state: Callable[[], LiveState | None] = lambda: None
        self._reader = RealHostReader()
        self.worlds = worlds
        self.at = 0

    @property
    def seconds_left(self) -> float:
        """Of the whole demonstration's time."""
        return max(0.0, self._began + self._limit_seconds - time.monotonic())

    def look_at(self, at: int, words: SharedWords, state: Callable[[], LiveState | None]) -> None:
        """From now on this world is the one that runs; where its figures come from."""
        self.at, self._words, self._state = at, words, state
        self._writing_since = None
        self._reader = RealHostReader()
        self._put(completed=0, seconds=0.0, state=None, real=None, outcome="", verdict="")

    def look_away(self) -> None:
        """The run has ended: its figures stay as they were last."""
        self._refresh()
        self._words, self._state, self._writing_since = None, lambda: None, None

    def phase(self, words: str) -> None:
        """What the world does now."""
        self._put(phase=words)
        self._refresh()

    def writing(self) -> None:
        """The writer has begun."""
        self._writing_since = time.monotonic()

    def verdict(self, at: int, outcome: str, sentence: str) -> None:
        """What a world came to."""
        self.worlds[at] = replace(self.worlds[at], phase="done", outcome=outcome, verdict=sentence)
        self._show()

    def wait(self, until: Callable[[], bool], seconds: float) -> bool:
        """Wait until something holds, so long at most and never past the demonstration's end; whether it did."""
        end = time.monotonic() + min(seconds, self.seconds_left)
        while not (held := until()) and (now := time.monotonic()) < end:
            if now - self._shown >= UPDATE_SECONDS:
                self._refresh()
            time.sleep(max(0.0, min(GLANCE_SECONDS, end - now)))
        return held

    def _refresh(self) -> None:
        if self._words is not None:
            state = self._state()
            seconds = self.worlds[self.at].seconds
            if self._writing_since is not None:
                seconds = time.monotonic() - self._writing_since
            self._put(
                completed=self._words.get("writes_completed"),
                seconds=seconds,
                state=state,
                real=self._reader.look(state) if state is not None and self._screen is not None else None,
            )
        self._show()

    def _put(self, **changed: object) -> None:
        self.worlds[self.at] = replace(self.worlds[self.at], **changed)

    def _show(self) -> None:
        self._shown = time.monotonic()
        if self._screen is not None:
            view = DemoView(
                title=self._title,
                seconds=self._shown - self._began,
                limit_seconds=self._limit_seconds,
                worlds=list(self.worlds),
            )
            self._screen.update(view)
