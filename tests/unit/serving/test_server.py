from __future__ import annotations

import socket

import pytest
from fastapi import FastAPI

from unroll.errors import UnrollError
from unroll.serving.server import _listen, run_server


def test_an_address_that_is_taken_or_none_is_told_with_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UnrollError, match=r"is not to be had \(Address already in use\); name another with --host"):
            run_server(FastAPI(), "127.0.0.1", taken.getsockname()[1], print)
    with pytest.raises(UnrollError, match=r"no\.such\.host\.invalid port 0 is not to be had"):
        run_server(FastAPI(), "no.such.host.invalid", 0, print)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_answer_need_not_wait_for_an_acknowledgement(host: str) -> None:
    # asyncio turns Nagle's algorithm off for such sockets only; left on, every answer took 40 ms longer
    with _listen(host, 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP
