"""Run a command that ends when whoever started it does: ``python -m flows.leash COMMAND ARGS…``.

The parent holds the other end of standard input. Its death, even by SIGKILL, closes that end; the command's whole
process group is then ended, so that no server outlives the command that wanted it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from types import FrameType

SECONDS_TO_END = 10.0


def main() -> int:
    """Run the command; return its exit status."""
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)

    def end_group(number: int = signal.SIGTERM, frame: FrameType | None = None) -> None:
        try:
            os.killpg(child.pid, signal.SIGTERM)
            threading.Timer(SECONDS_TO_END, os.killpg, (child.pid, signal.SIGKILL)).start()
        except ProcessLookupError:
            pass

    def watch_parent() -> None:
        os.read(0, 1)  # returns only at the end of the stream: the parent writes nothing
        end_group()

    signal.signal(signal.SIGTERM, end_group)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=watch_parent, daemon=True).start()
    status = child.wait()
    end_group()
    os._exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()
