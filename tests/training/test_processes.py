"""Training in several processes, and killing the process that runs an experiment."""

import json
import multiprocessing
import os
import random
import signal
import socket
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from m2lib.accounting.shape import Shape
from m2lib.cli import main
from m2lib.files import InputError
from m2lib.model.adapter_files import save_adapter
from m2lib.model.backbones import backbone_config, load_backbone
from m2lib.model.lora import trainable
from m2lib.model.vocabulary import text_to_ids
from m2lib.series.codec import encode
from m2lib.series.recipe import generate_series
from m2lib.study import budget
from m2lib.study import work as working
from m2lib.study.budget import BudgetExceeded, all_records, budget_of, hold
from m2lib.study.costs import estimate, sum_costs
from m2lib.study.experiments import EXPERIMENTS
from m2lib.study.profiles import PROFILES, Profile
from m2lib.study.records import Record, load_record
from m2lib.training.config import TrainConfig
from m2lib.training.loop import train
from m2lib.training.processes import Processes, join_processes
from m2lib.training.windows import make_windows

CONFIG = TrainConfig(steps=8, learning_rate=1e-2, rank=2, sequence_length=64, clip_norm=1, tail_weight=2)
SHORT = {name: {"steps": 2, "learning_rate": 1e-2} for name in ("default", "search")}
SMALL = Profile(
    "laptop",
    "tiny",
    series=4,
    batch_size=2,
    live=False,
    train={"default-warm": {"steps": 4}} | SHORT,
    checkpoint_every=1,
)


@pytest.fixture(scope="module")
def context():
    if "forkserver" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system has no fork server")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["accelerate", "m2lib.model.backbones", "m2lib.study.runs", "m2lib.training.loop", "transformers", "scipy"]
    )
    return context


def start(context, target, *arguments, processes=1, **environment):
    """Start `target(*arguments)` as a launcher would, in so many processes, and return them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for index in range(processes):
        meeting = {"RANK": index, "LOCAL_RANK": index, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
        meeting |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
        meeting |= {"GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo"}
        settings = environment | (meeting if processes > 1 else {}) | {"M2_DEVICE": "cpu", "M2_DTYPE": "float32"}
        settings = {name: str(value) for name, value in settings.items()}
        started.append(context.Process(target=in_environment, args=(settings, target, *arguments)))
        started[-1].start()
    return started


def in_environment(settings, target, *arguments):
    os.environ.update(settings)
    torch.set_num_threads(1)
    target(*arguments)


def exit_codes(processes):
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


def windows_of_five():
    data = generate_series(5)
    # The third window is short, so that the shares of a batch differ in what they weigh.
    return make_windows([text_to_ids(encode(data.trajectories[i], data.scales[i]))[:150] for i in range(5)], 64)


def train_and_report(folder, press_at=None):
    processes = join_processes()
    model = load_backbone("tiny").model
    seen = []

    def evaluate():
        seen.append(1)
        if len(seen) == press_at and not processes.lead:
            signal.raise_signal(signal.SIGINT)
        return {}

    checkpoints = folder / "checkpoints"
    try:
        log = train(
            model, windows_of_five(), CONFIG, checkpoints, evaluate=evaluate, evaluate_after=range(9),
            processes=processes, progress=False,
        )  # fmt: skip
    except KeyboardInterrupt:
        (folder / f"stopped-{processes.index}").touch()
        return
    save_adapter(model, folder / f"adapter-{processes.index}", "tiny")
    (folder / f"losses-{processes.index}.json").write_text(json.dumps(log.losses), encoding="utf-8")


def outcome(folder, index):
    adapter = (folder / f"adapter-{index}" / "adapter_model.safetensors").read_bytes()
    return adapter, json.loads((folder / f"losses-{index}.json").read_text(encoding="utf-8"))


def test_two_processes_train_as_one(context, tmp_path):
    folders = [tmp_path / name for name in ("one", "two", "stopped")]
    for folder in folders:
        folder.mkdir()
    one, two, stopped = folders
    runs = [start(context, train_and_report, one), start(context, train_and_report, two, processes=2)]
    assert [exit_codes(run) for run in runs] == [[0], [0, 0]]
    assert outcome(two, 0) == outcome(two, 1)
    assert outcome(two, 0)[1] == pytest.approx(outcome(one, 0)[1], abs=2e-4)
    assert len(list((two / "checkpoints").iterdir())) == 2

    # Ctrl-C reaches one of them: both stop after the same step, and go on to the same end.
    assert exit_codes(start(context, train_and_report, stopped, 4, processes=2)) == [0, 0]
    assert sorted(path.name for path in stopped.glob("stopped-*")) == ["stopped-0", "stopped-1"]
    assert max(path.name for path in (stopped / "checkpoints").iterdir()).startswith("step-000004")
    assert exit_codes(start(context, train_and_report, stopped, processes=2)) == [0, 0]
    assert outcome(stopped, 0) == outcome(stopped, 1) == outcome(two, 0)


def test_a_batch_is_shared_without_rest():
    batch = np.arange(10).reshape(5, 2)
    shares = [Processes(index, 3).share(batch) for index in range(3)]
    assert sorted(row for share in shares for row in share[:, 0]) == [0, 2, 4, 6, 8]
    assert join_processes() == Processes()


@pytest.mark.parametrize(
    ("launched", "problem"),
    [
        ({"WORLD_SIZE": "abc"}, "WORLD_SIZE is 'abc', not a whole number"),
        ({"WORLD_SIZE": "-1"}, "WORLD_SIZE is '-1', not a whole number"),
        ({"WORLD_SIZE": "2"}, "RANK is not set, but WORLD_SIZE is 2"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "LOCAL_RANK is not set, but WORLD_SIZE is 2"),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "x"}, "LOCAL_RANK is 'x', not a whole number"),
        ({"WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "0"}, "RANK is 2, but WORLD_SIZE is 2"),
    ],
)
def test_a_launch_that_cannot_be_is_refused_by_name(launched, problem, monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"^{problem}"):
        join_processes()


def join_with_nobody():
    with pytest.raises(InputError, match=r"^cannot join the other processes: invalid literal .*; torchrun starts them"):
        join_processes()


def test_processes_that_do_not_come_together_say_so(context):
    launched = {"WORLD_SIZE": 2, "RANK": 0, "LOCAL_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "x"}
    assert exit_codes(start(context, join_with_nobody, **launched, OMP_NUM_THREADS=1)) == [0]


def test_more_processes_than_windows_in_a_batch(tiny, tmp_path):
    with pytest.raises(InputError, match="3 processes cannot share batches of 2"):
        train(tiny.model, np.ones((4, 64), int), CONFIG, tmp_path, processes=Processes(0, 3))
    assert list(trainable(tiny.model)) == ["lm_head.bias"]


def run_small(*names):
    PROFILES["laptop"] = SMALL
    assert main(["run", *names]) == 0


def test_several_processes_make_one_record(context, recipe_file, tmp_path):
    places = {
        "M2_PROFILE": "laptop",
        "M2_DATA": recipe_file,
        "M2_RESULTS": tmp_path / "results",
        "M2_OUT": tmp_path / "build",
    }
    assert exit_codes(start(context, run_small, "default-warm", processes=2, **places)) == [0, 0]
    record = json.loads((tmp_path / "results" / "laptop-tiny" / "default-warm.json").read_text(encoding="utf-8"))
    assert (record["status"], len(record["series"]), record["steps_run"]) == ("done", 4, 4)
    assert record["adapter"]


def test_several_processes_run_what_builds_on_each_other(context, recipe_file, tmp_path):
    """Each experiment finds the earlier ones finished in every process, so that all train the same ones."""
    places = {
        "M2_PROFILE": "laptop",
        "M2_DATA": recipe_file,
        "M2_RESULTS": tmp_path / "results",
        "M2_OUT": tmp_path / "build",
    }
    names = ("search/expt_0", "search/expt_1", "default-rest")
    assert exit_codes(start(context, run_small, *names, processes=2, **places)) == [0, 0]
    folder = tmp_path / "results" / "laptop-tiny"
    for name in (*names, "default", "baseline"):
        record = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        assert (record["status"], record["steps_run"]) == ("done", len(record["loss_curve"])), name


def run_until_killed(name, kill_at):
    """Kills itself at the so-many-th time that a record is saved, just before or just after."""
    saves = []
    real = working.save_record

    def save(*arguments):
        saves.append(1)
        if len(saves) == abs(kill_at) and kill_at < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        real(*arguments)
        if len(saves) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    working.save_record = save
    run_small(name)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system cannot kill a process outright")
def test_killed_experiment_ends_as_an_unbroken_one(context, recipe_file, tmp_path, monkeypatch):
    kills = [random.choice((-1, 1)) * random.randrange(2, 6) for _ in range(3)]
    print("killed before (-) or after (+) save", kills)
    ends = []
    for name, deaths in (("unbroken", []), ("killed", kills)):
        places = {
            "M2_PROFILE": "laptop",
            "M2_DATA": recipe_file,
            "M2_RESULTS": tmp_path / name,
            "M2_OUT": tmp_path / name / "x",
        }
        for death in deaths:
            assert exit_codes(start(context, run_until_killed, "default-warm", death, **places)) in (
                [-signal.SIGKILL],
                [0],  # an earlier run had come so far that few saves were left
            )
        assert exit_codes(start(context, run_small, "default-warm", **places)) == [0]
        monkeypatch.setenv("M2_RESULTS", str(tmp_path / name))
        ends.append(load_record(SMALL, "default-warm"))
    unbroken, killed = ends
    assert killed.steps_run >= unbroken.steps_run == 4
    apart = {"seconds": 0, "train_seconds": 0, "evaluation_seconds": 0, "steps_run": 0, "flops": {}, "run": ""}
    assert replace(killed, **apart) == replace(unbroken, **apart)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system cannot kill a process outright")
def test_killed_spending_counts_and_what_is_repeated_again(context, recipe_file, tmp_path, monkeypatch):
    places = {
        "M2_PROFILE": "laptop",
        "M2_DATA": recipe_file,
        "M2_RESULTS": tmp_path / "results",
        "M2_OUT": tmp_path / "build",
    }
    monkeypatch.setenv("M2_RESULTS", str(tmp_path / "results"))
    # The second save while it trains counts step 2; the checkpoint of that step is not written any more.
    assert exit_codes(start(context, run_until_killed, "default-warm", 2, **places)) == [-signal.SIGKILL]
    killed = load_record(SMALL, "default-warm")
    assert (killed.status, killed.steps_run) == ("running", 2)
    assert killed.flops["reserved"]["published"] > 0
    assert budget_of(SMALL).reserved == 0  # nobody holds it
    assert exit_codes(start(context, run_small, "default-warm", **places)) == [0]
    done = load_record(SMALL, "default-warm")
    assert (done.steps_run, len(done.loss_curve)) == (5, 4)  # step 2 twice
    assert killed.flops["training"]["published"] * 5 == done.flops["training"]["published"] * 2
    assert done.flops["reserved"] == sum_costs()


DECODED = {"decode": {}}


def reserve(profile, name, barrier, outcomes):
    experiment, shape = EXPERIMENTS[name], Shape.of(backbone_config("tiny"))
    needed = sum_costs(*estimate(experiment, profile, shape).values())
    barrier.wait()
    try:
        with hold(profile, name):
            budget.reserve(profile, shape, Record(name, profile.name, "f", DECODED, {}, {}, 2), needed, name)
            outcomes.put((name, "reserved"))
            barrier.wait()  # those who got it hold on until all have asked
    except BudgetExceeded:
        outcomes.put((name, "refused"))
        barrier.wait()


@pytest.mark.parametrize("room", [0, 1, 3])
def test_processes_that_start_together_never_reserve_too_much(context, tmp_path, monkeypatch, room):
    monkeypatch.setenv("M2_RESULTS", str(tmp_path))
    names = [f"search/expt_{i}" for i in (0, 3, 6, 1)]  # three of rank 2, one of rank 4
    profile = replace(SMALL, train={"search": {"steps": 2}})
    shape = Shape.of(backbone_config("tiny"))
    most = max(sum_costs(*estimate(EXPERIMENTS[name], profile, shape).values())["coursework"] for name in names)
    profile = replace(profile, budget=room * most)
    barrier, outcomes = context.Barrier(4), context.Queue()
    processes = [
        one for name in names for one in start(context, reserve, profile, name, barrier, outcomes, M2_RESULTS=tmp_path)
    ]
    got = [outcomes.get(timeout=60) for _ in processes]
    assert exit_codes(processes) == [0] * 4
    reserved = {name for name, outcome in got if outcome == "reserved"}
    assert len(reserved) == room
    assert set(all_records(profile)) == reserved
    assert budget_of(profile).reserved == 0  # they are gone
