"""`make bench` times decoding and training, against peers and against what the machine can do.

It prints the tables and writes build/bench/<model>-<device>.json, or
benchmarks/results/<model>-<device>.json with --record. All times of a table come from one process.
Where a peer is slow, a part of the work is measured and scaled, and the table says so.
"""

import argparse
import os
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from benchmarks import llama_cpp, openvino, peers
from benchmarks.command import one_line
from benchmarks.measure import bandwidth, peak_memory, product_rate, seconds
from benchmarks.peers import PeftTraining, generate_batched, generate_one_by_one, plain_steps
from m2lib.accounting.flops import executed_pass, forecast_flops, train_step_flops
from m2lib.accounting.shape import Shape, total
from m2lib.decoding.bare_model import BareModel
from m2lib.decoding.engine import Engine
from m2lib.decoding.generation import DecodeConfig, generate
from m2lib.decoding.reference import Reference
from m2lib.files import ROOT, write_json
from m2lib.model.backbones import backbone_config, load_backbone
from m2lib.model.devices import DTYPES, chosen_device, fastest_dtype
from m2lib.model.vocabulary import PAD_ID, TokenRemap, reduce_vocabulary, text_to_ids
from m2lib.provenance import provenance
from m2lib.series import encode, load_series, split_ids
from m2lib.training.config import TrainConfig
from m2lib.training.loop import train
from m2lib.training.windows import make_windows
from study.settings import out_dir

QWEN = "qwen2.5-0.5b-random"  # the report's shape, random weights: nothing to download
CONFIG = DecodeConfig(constrained=True)  # random weights would not end after 20 steps by themselves
LENGTH = 512  # tokens of a training window
BATCH = 2  # windows
RANK = 8
COUNTS = (1, 4, 10, 50)  # series that are decoded at once, beside OpenVINO


def load(name: str, dtype: str, reduce: bool = True) -> tuple[PreTrainedModel, TokenRemap]:
    """Return a model and its remap, in eval mode."""
    if name != QWEN:
        backbone = load_backbone(name, dtype=dtype, reduce=reduce)
        return backbone.model, backbone.remap
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    config = backbone_config("qwen2.5-0.5b")
    remap = TokenRemap((151643, *range(15, 25), 11, 26))
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    model = model.to(chosen_device()).eval()
    if reduce:
        model = reduce_vocabulary(model, remap)
    return model, remap


def load_reduced(name: str, dtype: str) -> PreTrainedModel:
    """Return a model that knows the 13 tokens alone, in eval mode."""
    model, _ = load(name, dtype)
    return model


def prompts_of(count: int) -> list[list[int]]:
    """Return the whole contexts of the first validation series, as token ids."""
    series = load_series()
    ids = split_ids(len(series)).validation[:count]
    return [text_to_ids(encode(series.contexts[i], series.scales[i])) for i in ids]


def training_windows() -> np.ndarray:
    """Return full windows of training series, (windows, LENGTH)."""
    series = load_series()
    texts = []
    for i in split_ids(len(series)).train[:100]:
        texts.append(text_to_ids(encode(series.trajectories[i], series.scales[i])))
    windows = make_windows(texts, LENGTH)
    is_full = (windows != PAD_ID).all(axis=1)
    return windows[is_full]


def decode_rows(name: str, dtype: str, count: int, limits: dict) -> list[dict]:
    """Return the rows of the table of decoding, from transformers' way to ours.

    count: series that are forecast; the slower ways forecast fewer, and their time is scaled.
    """
    prompts = prompts_of(count)
    few_prompts = prompts[:3] if count >= 50 else prompts[:1]
    two_prompts = few_prompts[:2]
    ten_prompts = prompts[:10]
    batches = f"batches of {len(ten_prompts)}"  # fewer than ten if so few are to be forecast
    rows = [_one_by_one_row(name, few_prompts, count)]

    # Each row makes one more change on the way to ours.
    float32_model = load_reduced(name, "float32")
    duration = _decode_seconds(float32_model, two_prompts, batch=1, engine=Reference)
    label = "and stopping after 20 steps, with 13 tokens"
    rows.append(_scaled_row(label, duration, len(two_prompts), count))
    del float32_model
    model = load_reduced(name, dtype)
    duration = _decode_seconds(model, two_prompts, batch=1, engine=Reference)
    rows.append(_scaled_row(f"and {dtype}", duration, len(two_prompts), count))
    duration = _decode_seconds(model, ten_prompts, batch=10, engine=Reference)
    rows.append(_scaled_row(f"and {batches}", duration, len(ten_prompts), count))
    duration = _decode_seconds(model, ten_prompts, batch=10, engine=Engine)
    label = "and our forward pass: prompts alone, merged, own cache"
    rows.append(_scaled_row(label, duration, len(ten_prompts), count))

    work = partial(generate_batched, model, ten_prompts)
    duration = seconds(work, model.device, warm=False)
    label = f"(b) transformers, {batches}, {dtype}, 13 tokens, 220 tokens"
    rows.append(_scaled_row(label, duration, len(ten_prompts), count))
    load_float32 = partial(load_reduced, name, "float32")
    llama_seconds = llama_cpp.measured(load_float32, ten_prompts)
    for label, duration in llama_seconds.items():
        rows.append(_scaled_row(f"(d) {label}", duration, len(ten_prompts), count))

    rows.append(_our_decode_row(model, dtype, prompts, limits))
    return rows


def _one_by_one_row(name: str, prompts: list[list[int]], count: int) -> dict:
    """Return the row of transformers as it is usually run, with the full vocabulary."""
    model, remap = load(name, "float32", reduce=False)
    work = partial(generate_one_by_one, model, remap, prompts)
    duration = seconds(work, model.device, warm=False)
    label = "(a) transformers, one by one, float32, full vocabulary, 220 tokens"
    return _scaled_row(label, duration, len(prompts), count)


def _our_decode_row(
    model: PreTrainedModel, dtype: str, prompts: list[list[int]], limits: dict
) -> dict:
    """Return the row of ours, with its limit and the number of new tokens."""
    generate(model, prompts[:2], CONFIG)  # warms up
    forecasts: list[tuple] = []

    def work() -> None:
        forecasts.append(generate(model, prompts, CONFIG))

    duration = seconds(work, model.device, warm=False)
    samples_by_series, _ = forecasts[0]
    tokens = [len(samples[0]) for samples in samples_by_series]
    lengths = [len(prompt) for prompt in prompts]
    limit = decode_limit(Shape.of(model.config), lengths, tokens, model, limits)
    row = _row(f"m2lib, {dtype}, 20 steps, constrained", duration, limit=limit)
    return row | {"new_tokens": sum(tokens)}


def _decode_seconds(
    model: PreTrainedModel, prompts: list[list[int]], batch: int, engine: type
) -> float:
    """Return the seconds that an engine, Reference or Engine, takes for prompts in batches."""
    batches = [prompts[i : i + batch] for i in range(0, len(prompts), batch)]

    def work() -> None:
        for rows in batches:
            generate(model, rows, CONFIG, engine=engine)

    return seconds(work, model.device, warm=False)


def beside_openvino(name: str, dtype: str, count: int) -> dict:
    """Return the seconds of OpenVINO and of ours for the same prompts and equally many tokens.

    count: series that are forecast at most. Without OpenVINO nothing is returned.
    """
    prompts = prompts_of(min(count, max(COUNTS)))
    counts = [n for n in COUNTS if n <= len(prompts)]

    def load_ours() -> dict[str, openvino.Way]:
        return {f"m2lib, {dtype}": fixed_tokens(BareModel(load_reduced(name, dtype)))}

    load_float32 = partial(load_reduced, name, "float32")
    durations = openvino.measured(load_float32, prompts, counts, load_ours)
    if not durations:
        return {}
    lengths = [len(prompt) for prompt in prompts]
    tokens = {"new": peers.NEW_TOKENS, "shortest": min(lengths), "longest": max(lengths)}
    return {"tokens": tokens, "seconds": durations}


def fixed_tokens(bare: BareModel) -> openvino.Way:
    """Return our way to write so many tokens for each prompt, neither fewer nor more."""

    def write(prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
        # The grammar allows no pad, and so many steps would take more tokens: no row ends early.
        config = DecodeConfig(constrained=True, steps=new_tokens, max_new_tokens=new_tokens)
        samples, _ = generate(bare, prompts, config)
        return [tokens for (tokens,) in samples]

    return write


def openvino_table(result: dict) -> str:
    """Return the table of `beside_openvino`.

    After the seconds of ours it says by how much ours is faster.
    """
    tokens = result["openvino"]["tokens"]
    (peer, peer_durations), *our_ways = result["openvino"]["seconds"].items()
    title = (
        f"{result['backbone']}, 13 tokens, all series at once: seconds for {tokens['new']} tokens "
        f"each, after prompts of {tokens['shortest']} to {tokens['longest']}"
    )
    head = [title]
    peer_cells = [peer]
    for count, duration in peer_durations.items():
        head.append(f"{count} series")
        peer_cells.append(f"{duration:.2f}")
    lines = [_table_line(head), "|---" * len(head) + "|", _table_line(peer_cells)]
    for label, our_durations in our_ways:
        cells = [label]
        for count, duration in our_durations.items():
            factor = peer_durations[count] / duration
            cells.append(f"{duration:.2f} ({factor:.1f} times)")
        lines.append(_table_line(cells))
    return "\n".join(lines)


def _table_line(cells: list[str]) -> str:
    """Return a line of a table in Markdown."""
    return f"| {' | '.join(cells)} |"


def decode_limit(
    shape: Shape,
    lengths: list[int],
    tokens: list[int],
    model: PreTrainedModel,
    limits: dict[str, float],
) -> float:
    """Return the seconds that forecasts take at least.

    Prefills and products run at the matrix rate or, where few rows share them, at the rate at which
    weights are read; keys and values are read at that rate, too. Prompts have `lengths` tokens and
    get `tokens` new ones each; `limits` holds FLOP/s and bytes/s.
    """
    size = model.dtype.itemsize
    flops_of_token = total(executed_pass(shape, 1, 0, 0))  # of the products alone
    weight_bytes = flops_of_token / 2 * size  # two FLOPs a weight
    cache_bytes = 2 * shape.layers * shape.kv_width * size  # keys and values of one token

    prefills = sum(total(forecast_flops(shape, n, 1, convention="executed")) for n in lengths)
    limit = prefills / limits["flops"]
    for step in range(1, max(tokens)):
        # The prompts' lengths of those rows that get a further token.
        alive = [n for n, new in zip(lengths, tokens, strict=True) if new > step]
        products = len(alive) * flops_of_token / limits["flops"]
        reading_weights = weight_bytes / limits["bytes"]
        limit += max(products, reading_weights)
        limit += sum(n + step for n in alive) * cache_bytes / limits["bytes"]
    return limit


def train_rows(name: str, dtype: str, limits: dict) -> list[dict]:
    """Return the rows of the table of training, from PEFT's way to ours."""
    batch = torch.from_numpy(training_windows())[:BATCH]
    rows = []
    for precision, label in {"no": "float32", "bf16": "bfloat16 autocast"}.items():
        model, remap = load(name, "float32", reduce=False)
        peer = PeftTraining(model, remap, RANK, precision)
        duration = seconds(partial(peer.step, batch), peer.model.device, repeats=2)
        rows.append(_row(f"(c) PEFT and accelerate, {label}, full vocabulary", duration))
        del model, peer

    duration, _ = plain_steps(load_reduced(name, dtype), training_windows(), train_config(4))
    rows.append(_row(f"a plain loop, {dtype} weights, 13 tokens", duration))

    shape = Shape.of(load_reduced(name, dtype).config)
    flops = total(train_step_flops(shape, LENGTH, rank=RANK, batch=BATCH, convention="executed"))
    other_dtypes = [other for other in DTYPES if other != dtype]
    for our_dtype in (*other_dtypes, dtype):  # the default is last, as ours
        duration, _ = our_steps(name, our_dtype, 6)
        limit = flops / limits[f"flops_{our_dtype}"]
        rows.append(_row(f"m2lib, {our_dtype}, 13 tokens", duration, limit))
    return rows


def our_steps(
    name: str, dtype: str, steps: int, recompute: bool = False
) -> tuple[float, list[float]]:
    """Return the seconds of the fastest of several steps of `train`, and the losses."""
    model = load_reduced(name, dtype)
    os.environ["M2_RECOMPUTE"] = "1" if recompute else "0"
    with tempfile.TemporaryDirectory() as folder:
        log = train(
            model,
            training_windows(),
            train_config(steps),
            Path(folder),
            checkpoint_every=10**6,
            evaluate=lambda: {"at": time.perf_counter()},
            evaluate_after=range(steps),
            progress=False,
        )
    times = np.diff([entry["at"] for entry in log.evaluations])
    # times[0] is the first step, which warms up, and times[1] holds the checkpoint that follows it.
    return min(times[2:], default=float("nan")), log.losses


def train_config(steps: int) -> TrainConfig:
    """Return the settings with which every way of training is measured."""
    return TrainConfig(
        steps=steps, learning_rate=1e-3, rank=RANK, batch_size=BATCH, sequence_length=LENGTH
    )


def memory(name: str, dtype: str) -> dict[str, float]:
    """Return the peak GB of whole processes, with model and libraries, each for one purpose."""
    return {
        "25 series x 20 steps": peak_memory(_decode_alone, name, dtype, 25),
        f"a training step, {BATCH} x {LENGTH}, rank {RANK}": peak_memory(our_steps, name, dtype, 2),
        "the same, recomputing (M2_RECOMPUTE=1)": peak_memory(our_steps, name, dtype, 2, True),
    }


def memory_table(result: dict) -> str:
    """Return the table of `memory` as book/speed.md has it."""
    head = f"| {result['backbone']}, {result['dtype']}: peak memory | GB |"
    rows = [f"| {purpose} | {peak:.1f} |" for purpose, peak in result["memory"].items()]
    return "\n".join([head, "|---|---|", *rows])


def _decode_alone(name: str, dtype: str, count: int) -> None:
    """Forecast `count` series; `memory` lets a process of its own do it."""
    generate(load_reduced(name, dtype), prompts_of(count), CONFIG)


def _row(label: str, duration: float, limit: float | None = None) -> dict:
    """Return a row of a table: its label, its seconds and, where one is known, their limit."""
    row = {"what": label, "seconds": round(duration, 3)}
    if limit:
        row["limit_seconds"] = round(limit, 3)
    return row


def _scaled_row(label: str, duration: float, measured: int, count: int) -> dict:
    """Return the row of `count` series, of which `measured` took `duration` seconds."""
    return _row(label, duration / measured * count) | {"measured": f"{measured} series"}


def table(rows: list[dict], title: str) -> str:
    """Return a table as book/speed.md has it; the last row is ours."""
    lines = [f"| {title} | seconds | ours is faster by | of the limit |", "|---|---|---|---|"]
    ours = rows[-1]
    for row in rows:
        label = row["what"]
        if "measured" in row:
            label += f" ({row['measured']} measured)"
        factor = ""
        if row is not ours:
            factor = f"{row['seconds'] / ours['seconds']:.1f}"
        share = ""
        if "limit_seconds" in row:
            share = f"{row['limit_seconds'] / row['seconds']:.0%}"
        lines.append(f"| {label} | {row['seconds']:.2f} | {factor} | {share} |")
    return "\n".join(lines)


def machine_limits(name: str, dtype: str, device: torch.device) -> dict[str, float]:
    """Return the machine's FLOP/s in a model's products, by dtype, and its bytes/s of memory."""
    shape = Shape.of(backbone_config("qwen2.5-0.5b" if name == QWEN else name))
    rates = {}
    for kind in DTYPES:
        rates[kind] = product_rate(shape, getattr(torch, kind), device, BATCH * LENGTH)
    limits = {"flops": rates[dtype], "bytes": bandwidth(device)}
    for kind, rate in rates.items():
        limits[f"flops_{kind}"] = rate
    return limits


def titles(result: dict) -> dict[str, str]:
    """Return the title of each table of a record: the model and what was measured."""
    model = result["backbone"]
    sizes = result["sizes"]
    step = f"{sizes['batch']} x {sizes['length']}, rank {sizes['rank']}"
    return {
        "decode": f"{model}: {sizes['series']} series x 20 steps",
        "train": f"{model}: a training step, {step}",
    }


def _options() -> argparse.Namespace:
    """Return what the command line asks for, or end the program with what is wrong with it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--backbone", default="smollm2-135m", help=f"a name or path, or {QWEN}")
    parser.add_argument("--series", type=int, default=50, help="how many are forecast")
    parser.add_argument("--record", action="store_true", help="write into benchmarks/results")
    parser.add_argument(
        "--memory", action="store_true", help="measure the peak memory of each, and nothing else"
    )
    options = parser.parse_args()
    most_series = len(split_ids(len(load_series())).validation)
    if not 1 <= options.series <= most_series:
        parser.error(
            f"--series is {options.series}; give 1 to {most_series}, the validation series"
        )
    return options


def main() -> None:
    """Measure what the command line asks for, print it and write it."""
    options = _options()
    name = options.backbone
    device = torch.device(chosen_device())
    dtype = fastest_dtype(str(device))
    folder = ROOT / "benchmarks" / "results" if options.record else out_dir() / "bench"
    stem = f"{Path(name).name}-{device.type}"  # of a path its last part
    result = {"backbone": name, "dtype": dtype, **provenance(device)}
    if options.memory:
        result["memory"] = memory(name, dtype)
        print(memory_table(result))
        write_json(folder / f"{stem}-memory.json", result)
        return
    if device.type == "cpu":  # OpenVINO is measured on no other device
        openvino_result = beside_openvino(name, dtype, options.series)
        if openvino_result:
            result["openvino"] = openvino_result
            print(openvino_table(result), flush=True)

    measure_speed(result, options.series, device)
    path = folder / f"{stem}.json"
    write_json(path, result)
    print(path)


def measure_speed(result: dict, num_series: int, device: torch.device) -> None:
    """Add to a result what training and decoding take, and print their tables.

    It also adds what the machine can do at most, the loss curves of ours and of the plain loop, and
    how the seconds grow. The result names its backbone and its dtype.
    """
    name = result["backbone"]
    dtype = result["dtype"]
    limits = machine_limits(name, dtype, device)
    print(f"recorded runs compute in {dtype} here; the machine's FLOP/s by dtype, and bytes/s:")
    print({kind: f"{rate:.3g}" for kind, rate in limits.items()}, flush=True)
    result["limits"] = limits
    result["sizes"] = {"series": num_series, "length": LENGTH, "batch": BATCH, "rank": RANK}

    result["train"] = train_rows(name, dtype, limits)
    print(table(result["train"], titles(result)["train"]), flush=True)
    result["decode"] = decode_rows(name, dtype, num_series, limits)
    print(table(result["decode"], titles(result)["decode"]), flush=True)


if __name__ == "__main__":
    with one_line():
        main()
