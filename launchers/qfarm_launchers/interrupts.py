"""Interrupts: the first Ctrl-C asks for a drain, the second and SIGTERM end the run at once."""

import signal
from types import FrameType, TracebackType
from typing import Any, Self


class Interrupts:
    """While the block runs, count Ctrl-C; the second raises KeyboardInterrupt where it finds us.

    Attributes
    ----------
    drain : bool
        Whether the user has asked to stop after what runs now.
    """

    def __init__(self) -> None:
        self.drain = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup, or a shell's background job
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and not self.drain:
            self.drain = True
            return
        for ours in self._before:
            signal.signal(ours, signal.SIG_IGN)  # killing takes a second or two: let it finish
        raise KeyboardInterrupt


class Ends(Interrupts):
    """Interrupts of a daemon: the first of any kind asks it to end, the second ends it at once."""

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.drain:
            raise KeyboardInterrupt
        self.drain = True
