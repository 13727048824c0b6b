"""Memory of the training process."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""glibc's names for what `mallopt` sets (malloc.h)."""


def keep_freed_memory() -> bool:
    """Let the C library keep what a step frees for the next step; returns whether it could be told to.

    glibc hands every block above 32 MiB back to the system at once, and the next step pays for new pages: where batches
    of long reviews are trained on, two fifths of the processor's time (measured with the chapter's model, 32 reviews of
    300 to 1,000 words). Elsewhere than on glibc nothing is done.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    # no block is mapped apart, and the heap's free end is not given back
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1))
