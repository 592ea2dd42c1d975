"""The clients, each run as a process on a core of its own."""

import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.load import TOKEN, Answers, template
from benchmarks.servers import ROOT

_PATIENCE: Final = 30.0
"""Seconds that a client may take beyond its run."""

ClosedLoop = Callable[[int, float, int, int], Answers]
"""``(port, seconds, connections, core)``: as many events as the server takes."""


class _Wrk(msgspec.Struct):
    seconds: float
    answers: int
    refused: int
    lost: int
    p50: float
    p95: float
    p99: float


def closed_loop(name: str) -> ClosedLoop:
    """The client of that name, ``wrk`` or ``asyncio``; ``auto`` is wrk where it is installed. Raises ValueError."""
    if name == "auto":
        name = "wrk" if shutil.which("wrk") else "asyncio"
    if name == "wrk" and not shutil.which("wrk"):
        raise ValueError("wrk is not installed")
    return _wrk if name == "wrk" else _own


def open_loop(port: int, seconds: float, connections: int, core: int, rate: float) -> Answers:
    """``rate`` events a second, whether or not the server keeps up."""
    return _own(port, seconds, connections, core, rate)


def _own(port: int, seconds: float, connections: int, core: int, rate: float | None = None) -> Answers:
    arguments = [str(port), str(seconds), str(connections), *([] if rate is None else [str(rate)])]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    output = _run([sys.executable, "-m", "benchmarks.client", *arguments], environment, core, seconds)
    return msgspec.json.decode(output, type=Answers)


def _wrk(port: int, seconds: float, connections: int, core: int) -> Answers:
    event = template()
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", "wrk.lua"]
    with tempfile.NamedTemporaryFile() as file:
        file.write(event.head + b"@" + b"#".join(event.middle))
        file.flush()
        environment = {
            **os.environ,
            "BENCH_TEMPLATE": file.name,
            "BENCH_RUN": str(random.SystemRandom().getrandbits(32)),
            "BENCH_TOKEN": TOKEN,
        }
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        output = _run([*command, f"http://127.0.0.1:{port}/process-event"], environment, core, seconds)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = msgspec.json.decode(output.splitlines()[-1], type=_Wrk)
    if run.lost:
        raise RuntimeError(f"wrk lost {run.lost} connections or answers")
    cpu = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / run.seconds
    return Answers(run.seconds, run.answers - run.refused, run.refused, run.p50, run.p95, run.p99, cpu)


def _run(command: list[str], environment: Mapping[str, str], core: int, seconds: float) -> bytes:
    return subprocess.run(
        command,
        env=environment,
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        check=True,
        timeout=seconds + _PATIENCE,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    ).stdout
