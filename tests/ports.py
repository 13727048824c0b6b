"""Free ports that no other process of tests is given: several run beside each other."""

from __future__ import annotations

import random
import socket

_reservations: list[socket.socket] = []
_random = random.SystemRandom()  # what seeds the usual one must not lead two processes to the same ports


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens, this process's own until it ends."""
    while True:
        # below the ports that the system itself hands out, one of which may be taken before a server listens on it
        port = _random.randrange(10_000, 32_000)
        reservation = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
            # UDP's ports are apart from those of TCP: this one keeps other tests away and leaves the other to a server
            reservation.bind(("127.0.0.1", port))
        except OSError:
            reservation.close()
            continue
        _reservations.append(reservation)
        return port
