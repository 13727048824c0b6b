"""``python -m benchmarks.serving``: `unroll serve` under 64 concurrent clients while its champion changes twice.

Makes a registry in a temporary folder, starts the real command on a loopback port, and lets clients ask without pause:
most classify a review, some stream texts, one has reviews explained. Every answer is checked to its end. Before that,
one client alone classifies reviews of 230 words. Clients and server share this machine, so its rates are of both.

Prints a table; writes benchmarks/results/serving.json where --out names it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx
import numpy as np
import psutil

RESULTS = Path(__file__).parent / "results" / "serving.json"
ROOT = Path(__file__).parents[1]
CLIENTS = 64
STREAMING_CLIENTS = 8
EXPLAINING_CLIENTS = 1
ALONE_REQUESTS = 300
REVIEW_WORDS = 230
SECONDS_TO_END = 90
SENTIMENT_MODEL = "unroll-sentiment"


@dataclass
class Tally:
    """What the clients met."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """By kind of request, of those that were answered as they should be."""
    begun: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    versions: Counter[str] = field(default_factory=Counter)
    """Of the classifier, by the answers."""
    is_over: bool = False
    """Nothing more is asked."""

    def summary(self, seconds: float) -> dict[str, Any]:
        """Counts and quantiles, of each kind and of all; a request is lost that was begun and has no answer."""
        kinds = {kind: _quantiles(values) | {"requests": len(values)} for kind, values in self.seconds.items()}
        answered = sum(len(values) for values in self.seconds.values())
        return {
            "seconds": round(seconds, 1),
            "requests": sum(self.begun.values()),
            "answered": answered,
            "errors": len(self.errors),
            "lost": sum(self.begun.values()) - answered - len(self.errors),
            "requests_per_second": round(answered / seconds, 1),
            "kinds": kinds,
            "versions": dict(sorted(self.versions.items())),
        }


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    process_id: int

    def cpu_seconds(self) -> float:
        """What it has used so far, all its threads together."""
        times = psutil.Process(self.process_id).cpu_times()
        return float(times.user + times.system)


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the crowd's part")
    parser.add_argument(
        "--presets", nargs="*", default=["sample", "fast"], help="whose model sizes; the first is crowded"
    )
    parser.add_argument("--out", type=Path, help=f"JSON file of the results, for example {RESULTS.name}")
    arguments = parser.parse_args()
    results: dict[str, Any] = {"date": date.today().isoformat(), "machine": _machine(), "alone": {}}
    for number, preset in enumerate(arguments.presets):
        with tempfile.TemporaryDirectory() as folder:
            say(f"{preset}: making a registry")
            environment = make_registry(Path(folder), "--preset", preset)
            with serving(environment) as server:
                say(f"{preset}: one client, {ALONE_REQUESTS} reviews of {REVIEW_WORDS} words")
                results["alone"][preset] = measure_alone(server, ALONE_REQUESTS)
                if number == 0:
                    say(f"{preset}: {CLIENTS} clients for {arguments.seconds:g} s, two swaps")
                    results["crowd"] = {"preset": preset, "clients": CLIENTS} | measure_crowd(
                        server, environment, arguments.seconds
                    )
    print("\n".join(table(results)))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    crowd = results.get("crowd", {"errors": 0, "lost": 0})
    return int(bool(crowd["errors"] or crowd["lost"]))


def table(results: dict[str, Any]) -> list[str]:
    """The results as Markdown."""
    lines = ["| load | requests | p50, ms | p99, ms | per second | server CPU, ms each |", "|---|---|---|---|---|---|"]
    for preset, row in results["alone"].items():
        lines.append(
            f"| one client, {REVIEW_WORDS} words, sizes of `{preset}` | {row['requests']} | {row['p50_ms']} | "
            f"{row['p99_ms']} | {row['requests_per_second']} | {row['server_cpu_ms']} |"
        )
    if crowd := results.get("crowd"):
        for kind, row in crowd["kinds"].items():
            rate = round(row["requests"] / crowd["seconds"], 1)
            lines.append(
                f"| {crowd['clients']} clients, {kind} | {row['requests']:,} | {row['p50_ms']} | {row['p99_ms']} | "
                f"{rate} | |"
            )
        lines += [
            "",
            f"{crowd['requests']:,} requests in {crowd['seconds']} s, {crowd['errors']} errors, {crowd['lost']} lost, "
            f"{crowd['swaps']} swaps, {crowd['server_cpu_ms']} ms of server CPU each; answers by version: "
            f"{crowd['versions']}.",
        ]
    return lines


def make_registry(folder: Path, *options: str) -> dict[str, str]:
    """Fill an embedded store below the folder; returns the environment to serve it in."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment = plain | {"UNROLL_HOME": str(folder / ".unroll"), "PYTHONPATH": path, "PYTHONFAULTHANDLER": "1"}
    command = [sys.executable, "-m", "benchmarks.serving_registry", *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the registry could not be made: {done.stderr[-2000:]}")
    return environment


@contextmanager
def serving(environment: dict[str, str], *options: str) -> Iterator[Server]:
    """`unroll serve` on a free port, once it is ready. Ends it with SIGTERM and checks its status."""
    command = [sys.executable, "-m", "flows.cli", "serve", "--port", "0", "--poll", "0.5", *options]
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            _wait_until_ready(url, server)
            yield Server(url, server.pid)
        finally:
            status = _end(server)
            log.seek(0)
            if status != 0:
                raise RuntimeError(f"unroll serve ended with {status}: {log.read()[-4000:]}")


def _end(server: subprocess.Popen[str]) -> int:
    server.send_signal(signal.SIGTERM)
    try:
        return server.wait(timeout=SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        server.send_signal(signal.SIGABRT)  # with PYTHONFAULTHANDLER the log then says where every thread was
        return server.wait()


def promote(environment: dict[str, str], number: str) -> None:
    """Make another version of the classifier champion, in a process of its own as `unroll run` would be."""
    script = (
        "import sys; from tasks.registry import CHAMPION, ModelRegistry; from flows.embedded import *; "
        "p = workplace(); prepare_environment(p); r = ModelRegistry(p.tracking_uri); "
        f"r.set_alias(r.version('{SENTIMENT_MODEL}', sys.argv[1]), CHAMPION)"
    )
    subprocess.run([sys.executable, "-c", script, number], env=environment, check=True)


def measure_alone(server: Server, number: int) -> dict[str, Any]:
    """One client, one request after the other."""
    draw = random.Random(1)
    seconds = []
    cpu_started = 0.0
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for request in range(number + 20):
            text = review(draw, REVIEW_WORDS)
            started = perf_counter()
            client.post("/v1/sentiment", json={"texts": [text]}).raise_for_status()
            if request == 19:  # the first ones warm the caches
                cpu_started = server.cpu_seconds()
            elif request > 19:
                seconds.append(perf_counter() - started)
    rate = round(len(seconds) / sum(seconds), 1)
    cpu = round(1e3 * (server.cpu_seconds() - cpu_started) / len(seconds), 2)
    return _quantiles(seconds) | {"requests": len(seconds), "requests_per_second": rate, "server_cpu_ms": cpu} | _load()


def measure_crowd(
    server: Server, environment: dict[str, str], seconds: float, clients: int = CLIENTS
) -> dict[str, Any]:
    """Many clients at a time; the champion becomes version 2 after a third of the time, 1 after another."""
    tally = Tally()
    started, cpu_started = perf_counter(), server.cpu_seconds()
    asyncio.run(_crowd(server.url, environment, seconds, clients, tally))
    took = perf_counter() - started
    cpu = round(1e3 * (server.cpu_seconds() - cpu_started) / max(1, sum(tally.begun.values())), 2)
    swaps = httpx.get(f"{server.url}/metrics").text.split('unroll_model_swaps{project="sentiment"} ')[1].split()[0]
    for error in tally.errors[:10]:
        say(error)
    return tally.summary(took) | {"swaps": int(float(swaps)), "server_cpu_ms": cpu} | _load()


async def _crowd(url: str, environment: dict[str, str], seconds: float, clients: int, tally: Tally) -> None:
    work = []
    for number in range(clients):
        kind = "stream" if number < STREAMING_CLIENTS else "sentiment"
        if number >= clients - EXPLAINING_CLIENTS:
            kind = "explain"
        work.append(_ask_on(url, kind, random.Random(number), tally))
    await asyncio.gather(_swap_twice(environment, seconds, tally), *work)


async def _swap_twice(environment: dict[str, str], seconds: float, tally: Tally) -> None:
    """Both swaps fall into the crowd's time, which is made longer where a busy machine takes long for them."""
    started = perf_counter()
    try:
        for number, share in (("2", 1 / 3), ("1", 2 / 3)):
            await asyncio.sleep(max(0.0, started + share * seconds - perf_counter()))
            await asyncio.to_thread(promote, environment, number)
            answers = tally.versions[number]
            while tally.versions[number] < answers + 10:
                await asyncio.sleep(0.1)
        await asyncio.sleep(max(0.0, started + seconds - perf_counter()))
    finally:
        tally.is_over = True


async def _ask_on(url: str, kind: str, draw: random.Random, tally: Tally) -> None:
    # a client and a connection each, as in life; one pool for all would spend more time than the server on choosing
    async with httpx.AsyncClient(base_url=url, timeout=60, verify=False) as client:
        await _ask_until_over(client, kind, draw, tally)


async def _ask_until_over(client: httpx.AsyncClient, kind: str, draw: random.Random, tally: Tally) -> None:
    while not tally.is_over:
        tally.begun[kind] += 1
        started = perf_counter()
        try:
            version = await _ask(client, kind, draw)
        except Exception as error:
            tally.errors.append(f"{kind}: {type(error).__name__}: {error}")
            continue
        tally.seconds[kind].append(perf_counter() - started)
        if kind != "stream":
            tally.versions[version] += 1


async def _ask(client: httpx.AsyncClient, kind: str, draw: random.Random) -> str:
    """One request and its whole answer; returns the version that gave it. Raises where anything is amiss."""
    if kind == "stream":
        body = {"prompt": "The ", "length": 100, "seed": draw.randrange(10**6), "stream": True}
        async with client.stream("POST", "/v1/generate", json=body) as response:
            response.raise_for_status()
            events = [event async for event in _events(response)]
        made = sum(len(data["text"]) for name, data in events if name == "text")
        if events[-1][0] != "end" or made != 100:
            raise RuntimeError(f"a stream of {made} characters ended with {events[-1]}")
        return str(events[0][1]["model"]["version"])
    words = 12 if kind == "explain" else draw.randrange(5, 60)
    response = await client.post("/v1/sentiment", json={"texts": [review(draw, words)], "explain": kind == "explain"})
    response.raise_for_status()
    answer = response.json()
    (prediction,) = answer["predictions"]
    if abs(sum(prediction["probabilities"].values()) - 1) > 1e-6 or (prediction["tokens"] is None) == (
        kind == "explain"
    ):
        raise RuntimeError(f"unexpected answer {prediction}")
    return str(answer["model"]["version"])


async def _events(response: httpx.Response) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    name = ""
    async for line in response.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def review(draw: random.Random, words: int) -> str:
    """A made review of so many words."""
    return " ".join(draw.choice(_WORDS) for _ in range(words - 1)) + " film."


_WORDS = ("The", "music", "was", "superb", "and", "the", "plot", "felt", "dull", "Even", "so", "I", "can", "not", "say")


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def _wait_until_ready(url: str, server: subprocess.Popen[str]) -> None:
    deadline = perf_counter() + 90
    while perf_counter() < deadline and server.poll() is None:
        if url and httpx.get(f"{url}/readyz", timeout=30).status_code == 200:
            return
        time.sleep(0.1)
    raise RuntimeError("unroll serve did not become ready")


def _quantiles(seconds: list[float]) -> dict[str, float]:
    p50, p99 = np.quantile(seconds, (0.5, 0.99)) if seconds else (float("nan"), float("nan"))
    return {"p50_ms": round(1e3 * float(p50), 2), "p99_ms": round(1e3 * float(p99), 2)}


def _load() -> dict[str, float]:
    """How busy the machine is, with us and with others."""
    return {"load_average": round(os.getloadavg()[0], 1)} if hasattr(os, "getloadavg") else {}


def _machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
