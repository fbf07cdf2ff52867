"""`python -m benchmarks.threads`: how long work takes beside other work, by how threads wait for
each other.

PyTorch's threads meet many thousand times a second, and the one that comes first waits for the
other. While it waits it may sleep, which frees its core but costs time to wake from. Or it may stay
awake and look again and again, which is quick, but keeps the core busy even where the other thread
is waiting for that very core. Each way of waiting gets a process of its own, and the processes take
turns, alone and beside a neighbour. Writes build/bench/threads.json, or
benchmarks/results/threads.json with --record.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from threading import Timer

from m2lib.files import ROOT, write_json
from m2lib.settings import out_dir

WAYS = {
    "as libgomp does by itself": {"GOMP_SPINCOUNT": "300000"},
    "asleep at once": {"OMP_WAIT_POLICY": "PASSIVE"},
    "after 10,000 looks": {"GOMP_SPINCOUNT": "10000"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
"""When a waiting thread falls asleep, and the variables that have it do so. The first has to be
set, or the package would set another."""
NEIGHBOURS = ("alone", "beside a loop", "beside itself")
"""A loop is one thread of Python; beside itself a process has another one like it, which forecasts
without a pause."""
WORK = ("decode", "train")
PATIENCE = 90.0
"""Seconds after which a turn is given up."""


class Worker:
    """A process with a language model, which does a piece of work each time it is asked."""

    def __init__(self, variables: dict[str, str]) -> None:
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OMP_", "GOMP_"))
        }
        # Said, because decoding would otherwise choose by itself whether it takes one or all.
        all_threads = {"OMP_NUM_THREADS": str(os.cpu_count())}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.threads", "--worker"],
            env=environment | all_threads | variables,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # or the shell's end would wake what is stopped
        )
        if not self._answer():  # it has written the reason to stderr
            raise RuntimeError(f"a worker did not start; its status is {self.process.wait()}")

    def ask(self, work: str) -> None:
        """Have it begin a piece of work."""
        print(work, file=self.process.stdin, flush=True)

    def seconds(self, work: str) -> float | None:
        """Return how long a piece of work takes it.

        If that is longer than PATIENCE, the process is killed, and None is returned.
        """
        patience = Timer(PATIENCE, self.process.kill)
        patience.start()
        self.ask(work)
        answer = self._answer()
        if not answer and patience.is_alive():
            raise RuntimeError(f"the worker ended by itself, with status {self.process.wait()}")
        patience.cancel()
        return float(answer) if answer else None

    def _answer(self) -> str:
        """Wait for its next line, and return it; empty if the process has ended."""
        return self.process.stdout.readline().strip() if self.process.stdout else ""


def work_when_asked() -> None:
    """Answer each line of the standard input with the seconds that the work took, as a worker."""
    from m2lib.decoding import DecodeConfig, forecast
    from m2lib.model import load_backbone, text_to_ids
    from m2lib.series import encode, load_series, split_ids
    from m2lib.training import TrainConfig, make_windows, train

    backbone = load_backbone("smollm2-135m", device="cpu")  # it is the processor that has threads
    series = load_series()
    split = split_ids(len(series))
    ids = list(split.validation[:4])
    texts = [
        text_to_ids(encode(series.trajectories[i], series.scales[i])) for i in split.train[:20]
    ]
    windows = make_windows(texts, 512)
    protocol = DecodeConfig(constrained=True, steps=4)
    train_config = TrainConfig(steps=1, learning_rate=1e-4, rank=8)

    def do(work: str) -> None:
        if work == "decode":
            forecast(backbone, series.contexts[ids], protocol, batch_size=len(ids))
            return
        with TemporaryDirectory() as folder:
            train(backbone.model, windows, train_config, Path(folder), progress=False)

    do("decode")
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "forever":
            while True:
                do("decode")
        start = time.perf_counter()
        do(line.strip())
        print(time.perf_counter() - start, flush=True)


@contextmanager
def awake(process: subprocess.Popen | None) -> Iterator[None]:
    """Let a process, which is stopped otherwise, run for a while."""
    if process:
        process.send_signal(signal.SIGCONT)
    try:
        yield
    finally:
        if process:
            process.send_signal(signal.SIGSTOP)


def measure(rounds: int) -> list[dict]:
    """Return a row for each way of waiting and neighbour.

    It has the median seconds of each kind of work, over `rounds` turns. A way that was too slow
    once beside a neighbour is not asked again there.
    """
    loop = subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
    loop.send_signal(signal.SIGSTOP)
    workers: dict[str, Worker] = {}
    selves: dict[str, Worker] = {}
    durations: dict[tuple[str, str], dict[str, list[float | None]]] = {}
    try:  # from here on, so that no process is left behind where a worker cannot start
        for way, variables in WAYS.items():
            workers[way] = Worker(variables)
            selves[way] = Worker(variables)
            selves[way].ask("forever")
            selves[way].process.send_signal(signal.SIGSTOP)
        for _, neighbour, way in product(range(rounds), NEIGHBOURS, WAYS):
            turns = durations.setdefault((way, neighbour), {work: [] for work in WORK})
            neighbour_process: subprocess.Popen | None = None  # where it is alone
            if neighbour == "beside a loop":
                neighbour_process = loop
            elif neighbour == "beside itself":
                neighbour_process = selves[way].process
            _take_turn(workers, way, neighbour_process, turns)
            print(f"{way:28s} {neighbour:15s} {turns}", file=sys.stderr, flush=True)
    finally:
        processes: list[subprocess.Popen] = [loop]
        processes += [worker.process for worker in (*workers.values(), *selves.values())]
        for process in processes:
            with suppress(ProcessLookupError):
                process.kill()
    rows = []
    for (way, neighbour), turns in durations.items():
        medians = {work: typical(seconds) for work, seconds in turns.items()}
        rows.append({"way": way, "neighbour": neighbour, **medians, "turns": turns})
    return rows


def _take_turn(
    workers: dict[str, Worker],
    way: str,
    neighbour: subprocess.Popen | None,
    turns: dict[str, list[float | None]],
) -> None:
    """Have the worker of a way do each kind of work once, and add the seconds to its turns.

    Work that was given up once is left out. Its worker was killed, so a new one takes its place.
    """
    for work in WORK:
        if None in turns[work]:
            continue
        with awake(neighbour):
            turns[work].append(workers[way].seconds(work))
        if turns[work][-1] is None:
            workers[way] = Worker(WAYS[way])


def typical(seconds: list[float | None]) -> float | None:
    """Return the median; None if a turn was given up."""
    return None if None in seconds else median(seconds)  # type: ignore[type-var]


def main() -> None:
    """Measure, print a table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--record", action="store_true", help="write benchmarks/results/threads.json"
    )
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work_when_asked()
        return
    import torch

    from m2lib.model import fastest_dtype
    from m2lib.provenance import provenance

    rows = measure(options.rounds)
    setup = provenance(torch.device("cpu")) | {
        "dtype": fastest_dtype("cpu"),
        "patience": PATIENCE,
    }
    path = ROOT / "benchmarks" / "results" if options.record else out_dir() / "bench"
    write_json(path / "threads.json", setup | {"rounds": options.rounds, "rows": rows})
    print(threads_table(rows))


def threads_table(rows: list[dict]) -> str:
    """Return the table of book/speed.md: seconds, and how many times as long as alone."""
    lines = [
        "| a waiting thread falls asleep | | seconds of a forecast | of a training step |",
        "|---|---|---|---|",
    ]
    rows_alone = {row["way"]: row for row in rows if row["neighbour"] == "alone"}
    for row in rows:
        cells = []
        for work in WORK:
            if row[work] is None:
                cells.append(f"not ended after {PATIENCE:.0f}")
            elif row["neighbour"] == "alone":
                cells.append(f"{row[work]:.1f}")
            else:
                factor = row[work] / rows_alone[row["way"]][work]
                cells.append(f"{row[work]:.1f} ({factor:.1f} times)")
        lines.append(f"| {row['way']} | {row['neighbour']} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
