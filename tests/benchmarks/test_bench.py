"""The parts of `make bench`, on the smallest model."""

import copy
import json

import pytest
import torch

from benchmarks import bench
from m2lib.accounting.flops import executed_pass, forecast_flops
from m2lib.accounting.shape import Shape, total
from m2lib.decoding.bare_model import BareModel

FLOPS_A_SECOND = 1e11
BYTES_A_SECOND = 1e10
LIMITS = {"flops": FLOPS_A_SECOND, "bytes": BYTES_A_SECOND}


@pytest.fixture(autouse=True)
def cpu(monkeypatch):
    """Keep the benchmark on the CPU, and put back what it sets in the environment."""
    monkeypatch.setenv("M2_DEVICE", "cpu")
    monkeypatch.setenv("M2_RECOMPUTE", "0")


def test_each_way_of_decoding_is_a_row_of_the_table(monkeypatch):
    monkeypatch.setattr("benchmarks.peers.NEW_TOKENS", 5)

    rows = bench.decode_rows("tiny", "float32", 2, LIMITS)
    lines = bench.table(rows, "2 series").splitlines()

    assert len(lines) == 2 + len(rows)  # a head and a rule stand above them
    assert all(line.count("|") == 5 for line in lines)
    assert "1 series measured" in lines[2]  # the slowest way forecasts one and is scaled
    assert lines[5].startswith("| and batches of 2 (2 series measured) |")
    assert lines[-1].startswith("| m2lib, float32")
    json.dumps(rows)  # they can be recorded


def test_tables_compare_with_the_last_row():
    peer = bench._scaled_row("a", 3.0, measured=2, count=4)
    ours = bench._row("ours", 2.0, limit=1.0)
    assert bench.table([peer, ours], "t").splitlines()[2:] == [
        "| a (2 series measured) | 6.00 | 3.0 |  |",
        "| ours | 2.00 |  | 50% |",
    ]


def test_training_steps_are_timed_and_follow_the_plain_loop():
    model, _ = bench.load("tiny", "float32")

    our_seconds, our_losses = bench.our_steps("tiny", "float32", 4)
    plain_seconds, plain_losses = bench.plain_steps(
        model, bench.training_windows(), bench.train_config(4)
    )

    assert our_seconds > 0
    assert plain_seconds > 0
    assert our_losses == pytest.approx(plain_losses, abs=1e-4)


def test_peft_trains_on_the_device_that_the_model_is_on(tiny):
    """Accelerate by itself knows the first card alone. The meta device stands in for the second."""
    model = copy.deepcopy(tiny.model).to("meta")

    peer = bench.PeftTraining(model, tiny.remap, 2, "no")

    assert peer.model.device.type == "meta"


def test_the_limit_is_the_sum_of_its_parts(tiny):
    shape = Shape.of(tiny.model.config)
    flops_of_token = total(executed_pass(shape, 1, 0, 0))
    bytes_of_weights = flops_of_token * 2  # two FLOPs a weight, which has four bytes
    bytes_of_key_and_value = 2 * shape.layers * shape.kv_width * 4

    # Two prompts, of 30 and 40 tokens, are read. The first new token of each comes from that.
    prefill = total(forecast_flops(shape, 30, 1, convention="executed"))
    prefill += total(forecast_flops(shape, 40, 1, convention="executed"))
    # The second token takes a step of both rows, at 31 and 41 keys. The third one, which the
    # second row alone gets, takes a step of that row, at 42 keys.
    reading_weights = bytes_of_weights / BYTES_A_SECOND
    step_of_both = max(2 * flops_of_token / FLOPS_A_SECOND, reading_weights)
    step_of_one = max(flops_of_token / FLOPS_A_SECOND, reading_weights)
    reading_cache = (31 + 41 + 42) * bytes_of_key_and_value / BYTES_A_SECOND
    expected = prefill / FLOPS_A_SECOND + step_of_both + step_of_one + reading_cache

    limit = bench.decode_limit(shape, [30, 40], [2, 3], tiny.model, LIMITS)
    assert limit == pytest.approx(expected)


def test_ours_beside_openvino_writes_neither_fewer_nor_more_tokens(tiny):
    write = bench.fixed_tokens(BareModel(tiny.model))
    written = write(bench.prompts_of(2), 30)
    assert [len(tokens) for tokens in written] == [30, 30]


def test_the_table_beside_openvino_compares_equal_numbers_of_series():
    record = {
        "backbone": "tiny",
        "openvino": {
            "tokens": {"new": 220, "shortest": 578, "longest": 657},
            "seconds": {  # by the number of series
                "OpenVINO, 8 bits": {1: 3.0, 4: 8.0},
                "m2lib, float32": {1: 2.0, 4: 10.0},
            },
        },
    }

    head, rule, peer, ours = bench.openvino_table(record).splitlines()

    assert "220 tokens each, after prompts of 578 to 657 | 1 series | 4 series |" in head
    assert rule == "|---|---|---|"
    assert peer == "| OpenVINO, 8 bits | 3.00 | 8.00 |"
    assert ours == "| m2lib, float32 | 2.00 (1.5 times) | 10.00 (0.8 times) |"


@pytest.mark.parametrize("count", ["0", "51"])
def test_more_series_than_there_are_prompts_are_refused(monkeypatch, capsys, count):
    """The peers' times would be scaled to so many, and ours be that of fifty."""
    monkeypatch.setattr("sys.argv", ["bench", "--series", count])
    with pytest.raises(SystemExit):
        bench.main()
    assert f"--series is {count}; give 1 to 50, the validation series" in capsys.readouterr().err


def test_the_record_names_the_device_that_is_asked_for_and_stays_in_its_folder(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("M2_OUT", str(tmp_path))
    # There is a card, but M2_DEVICE=cpu keeps off it.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(bench, "memory", lambda *_: {})
    monkeypatch.setattr(bench, "memory_table", lambda _: "")
    # The slashes of a path must not lead the record into another folder.
    monkeypatch.setattr("sys.argv", ["bench", "--memory", "--backbone", "/elsewhere/my-model"])

    bench.main()

    (path,) = (tmp_path / "bench").iterdir()
    record = json.loads(path.read_text(encoding="utf-8"))
    assert path.name == "my-model-cpu-memory.json"
    assert record["device"].startswith("cpu: ")
