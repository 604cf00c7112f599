"""What a Rich console without a terminal prints."""

from collections.abc import Callable
from io import StringIO

from rich.console import Console


def printed(show: Callable[[Console], object], width: int = 200) -> str:
    """Text that `show` prints, without trailing blanks."""
    file = StringIO()
    console = Console(file=file, width=width, highlight=False, legacy_windows=False)
    show(console)
    text = file.getvalue()
    assert "\x1b" not in text, "escape sequences in a pipe"
    return "\n".join(line.rstrip() for line in text.splitlines())
