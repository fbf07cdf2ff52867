"""`make bench`: decoding and training against what one would otherwise run, and against what the
machine can do.

Prints the tables and writes build/bench/<model>-<device>.json, or
benchmarks/results/<model>-<device>.json with --record. All times of a table come from one process
run; where a peer is slow, a part of the work is measured and scaled, and the table says so.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks import llama_cpp
from benchmarks.measure import bandwidth, peak_memory, product_rate, seconds
from benchmarks.peers import PeftTraining, generate_batched, generate_one_by_one, plain_steps
from m2lib.accounting.flops import executed_pass, forecast_flops, train_step_flops
from m2lib.accounting.shape import Shape, total
from m2lib.decoding.engine import Engine
from m2lib.decoding.generation import DecodeConfig, generate
from m2lib.decoding.reference import Reference
from m2lib.files import ROOT, write_json
from m2lib.model.backbones import backbone_config, load_backbone
from m2lib.model.devices import DTYPES, best_dtype, chosen_device
from m2lib.model.vocabulary import TokenRemap, reduce_vocabulary, text_to_ids
from m2lib.series import encode, load_series, split_ids
from m2lib.settings import out_dir
from m2lib.study.provenance import provenance
from m2lib.training.config import TrainConfig
from m2lib.training.loop import train
from m2lib.training.windows import make_windows

QWEN = "qwen2.5-0.5b-random"  # the report's shape, random weights: nothing to download
CONFIG = DecodeConfig(
    constrained=True
)  # 20 steps, which random weights would not end by themselves
LENGTH, BATCH, RANK = 512, 2, 8


def load(name: str, dtype: str, reduce: bool = True):
    """A model and its remap, in eval mode."""
    if name != QWEN:
        backbone = load_backbone(name, dtype=dtype, reduce=reduce)
        return backbone.model, backbone.remap
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    config, remap = backbone_config("qwen2.5-0.5b"), TokenRemap((151643, *range(15, 25), 11, 26))
    model = (
        AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
        .to(chosen_device())
        .eval()
    )
    return (reduce_vocabulary(model, remap) if reduce else model), remap


def prompts_of(count: int) -> list[list[int]]:
    """The contexts of the first validation series, whole."""
    series = load_series()
    ids = split_ids().validation[:count]
    return [text_to_ids(encode(series.contexts[i], series.scales[i])) for i in ids]


def training_windows() -> np.ndarray:
    """Full windows of training series."""
    series = load_series()
    texts = [
        text_to_ids(encode(series.trajectories[i], series.scales[i]))
        for i in split_ids().train[:100]
    ]
    windows = make_windows(texts, LENGTH)
    return windows[(windows != 0).all(1)]


def decode_rows(name: str, dtype: str, count: int, limits: dict) -> list[dict]:
    prompts = prompts_of(count)
    model, remap = load(name, "float32", reduce=False)
    device, few = model.device, prompts[: 3 if count >= 50 else 1]
    took = seconds(lambda: generate_one_by_one(model, remap, few), device, warm=False)
    rows = [
        _row(
            "(a) transformers, one by one, float32, full vocabulary, 220 tokens",
            took / len(few) * count,
        )
    ]
    rows[-1]["measured"] = f"{len(few)} series"
    del model

    single, _ = load(name, "float32")
    rows += _step(
        single, few[:2], 1, count, "and stopping after 20 steps, with 13 tokens", Reference
    )
    del single
    model, _ = load(name, dtype)
    ten = prompts[:10]
    rows += _step(model, few[:2], 1, count, f"and {dtype}", Reference)
    rows += _step(model, ten, 10, count, "and batches of 10", Reference)
    rows += _step(
        model, ten, 10, count, "and our forward pass: prompts alone, merged, own cache", Engine
    )
    took = seconds(lambda: generate_batched(model, ten), device, warm=False)
    rows.append(
        _row(
            f"(b) transformers, batches of 10, {dtype}, 13 tokens, 220 tokens",
            took / len(ten) * count,
        )
    )
    rows[-1]["measured"] = f"{len(ten)} series"
    for label, took in llama_cpp.measured(lambda: load(name, "float32")[0], ten).items():
        rows.append(
            _row(f"(d) {label}", took / len(ten) * count) | {"measured": f"{len(ten)} series"}
        )

    found = []
    generate(model, prompts[:2], CONFIG)
    took = seconds(lambda: found.append(generate(model, prompts, CONFIG)), device, warm=False)
    tokens = [len(samples[0]) for samples in found[0][0]]
    limit = decode_limit(
        Shape.of(model.config), [len(prompt) for prompt in prompts], tokens, model, limits
    )
    rows.append(_row(f"m2lib, {dtype}, 20 steps, constrained", took, limit=limit))
    rows[-1]["new_tokens"] = sum(tokens)
    return rows


def _step(
    model, prompts: list[list[int]], batch: int, count: int, label: str, engine
) -> list[dict]:
    """A row on the way from the first to ours: what one more change makes of it."""
    batches = [prompts[i : i + batch] for i in range(0, len(prompts), batch)]
    took = seconds(
        lambda: [generate(model, one, CONFIG, engine=engine) for one in batches],
        model.device,
        warm=False,
    )
    return [_row(label, took / len(prompts) * count) | {"measured": f"{len(prompts)} series"}]


def decode_limit(shape: Shape, lengths: list[int], tokens: list[int], model, limits: dict) -> float:
    """Seconds that forecasts take at least: prefills and products at the matrix rate or, where few
    rows share them, at the rate at which weights are read; keys and values at the rate at which
    they are read."""
    size = model.dtype.itemsize
    one = executed_pass(shape, 1, 0, 0)
    linear, weights = total(one), total(one) / 2 * size
    cache = 2 * shape.layers * shape.kv_width * size
    limit = (
        sum(total(forecast_flops(shape, n, 1, convention="executed")) for n in lengths)
        / limits["flops"]
    )
    for step in range(1, max(tokens)):
        alive = [n for n, new in zip(lengths, tokens, strict=True) if new > step]
        limit += max(len(alive) * linear / limits["flops"], weights / limits["bytes"])
        limit += sum(n + step for n in alive) * cache / limits["bytes"]
    return limit


def train_rows(name: str, dtype: str, limits: dict) -> list[dict]:
    windows = torch.from_numpy(training_windows())
    rows = []
    for precision in ("no", "bf16"):
        model, remap = load(name, "float32", reduce=False)
        peer = PeftTraining(model, remap, RANK, precision)
        batch = windows[:BATCH]
        took = seconds(
            lambda peer=peer, batch=batch: peer.step(batch), peer.model.device, repeats=2
        )
        label = {"no": "float32", "bf16": "bfloat16 autocast"}[precision]
        rows.append(_row(f"(c) PEFT and accelerate, {label}, full vocabulary", took))
        del model, peer
    took, _ = plain_steps(*load(name, dtype)[:1], training_windows(), train_config(4))
    rows.append(_row(f"a plain loop, {dtype} weights, 13 tokens", took))
    shape = Shape.of(load(name, dtype)[0].config)
    flops = total(train_step_flops(shape, LENGTH, rank=RANK, batch=BATCH, convention="executed"))
    for kind in sorted(DTYPES, key=lambda kind: kind == dtype):  # ours, by default, is last
        took, _ = our_steps(name, kind, 6)
        rows.append(_row(f"m2lib, {kind}, 13 tokens", took, flops / limits[f"flops_{kind}"]))
    return rows


def our_steps(
    name: str, dtype: str, steps: int, recompute: bool = False
) -> tuple[float, list[float]]:
    """Seconds of the fastest of several steps of `train`, and the losses."""
    model, _ = load(name, dtype)
    os.environ["M2_RECOMPUTE"] = "1" if recompute else "0"
    with tempfile.TemporaryDirectory() as folder:
        log = train(
            model, training_windows(), train_config(steps), Path(folder), checkpoint_every=10**6,
            evaluate=lambda: {"at": time.perf_counter()}, evaluate_after=range(steps),
            progress=False,
        )  # fmt: skip
    # The first step warms up, and a checkpoint follows it.
    return min(
        np.diff([entry["at"] for entry in log.evaluations])[2:], default=float("nan")
    ), log.losses


def train_config(steps: int) -> TrainConfig:
    return TrainConfig(
        steps=steps, learning_rate=1e-3, rank=RANK, batch_size=BATCH, sequence_length=LENGTH
    )


def growth(name: str, dtype: str) -> dict[str, dict[int, float]]:
    """Seconds per forecast against context length, batch and samples."""
    model, _ = load(name, dtype)
    series = load_series()
    whole = [
        text_to_ids(encode(series.trajectories[i], series.scales[i]))
        for i in split_ids().validation[:10]
    ]
    prompts = prompts_of(50)
    generate(model, prompts[:2], CONFIG)

    def each(prompts: list[list[int]], config: DecodeConfig = CONFIG) -> float:
        generator = torch.Generator().manual_seed(0)
        return seconds(
            lambda: generate(model, prompts, config, generator), model.device, warm=False
        ) / len(prompts)

    sampled = {
        n: DecodeConfig(constrained=True, temperature=1.0, n_samples=n) for n in (1, 4, 16, 64)
    }
    return {
        "context": {n: each([ids[-n:] for ids in whole]) for n in (128, 256, 384, 512, 640, 768)},
        "batch": {n: each(prompts[:n]) for n in (1, 2, 5, 10, 25, 50)},
        "samples": {n: each(prompts[:1], config) for n, config in sampled.items()},
    }


def sharing(name: str, dtype: str, samples: int = 48) -> dict[str, dict[str, float]]:
    """A step of samples of three prompts that share their keys and values, and of as many that have
    a copy each."""
    model, _ = load(name, dtype)
    prompts = prompts_of(3)
    given = {
        "shared": (prompts, samples),
        "copied": ([prompt for prompt in prompts for _ in range(samples)], 1),
    }
    with torch.inference_mode():
        return {
            what: _step_alone(Engine(model, *rows), model.device) for what, rows in given.items()
        }


def _step_alone(engine: Engine, device: torch.device) -> dict[str, float]:
    tokens = torch.ones(len(engine.logits), dtype=torch.long, device=device)
    took = seconds(lambda: engine.step(tokens), device, repeats=10)
    held = {x.data_ptr(): x.nbytes for layer in engine.shared + engine.own for x in layer}
    return {"seconds": round(took, 4), "GB": round(sum(held.values()) / 1e9, 4)}


def sharing_table(result: dict) -> str:
    rows = [
        f"| {what} | {row['seconds']:.3f} | {row['GB']:.2f} |"
        for what, row in result["sharing"].items()
    ]
    title = f"{result['backbone']}, {result['dtype']}: a step of 48 samples of each of 3 series"
    return "\n".join([f"| {title} | seconds | GB of keys and values |", "|---|---|---|", *rows])


def memory(name: str, dtype: str) -> dict[str, float]:
    """Peak GB of whole processes, model and libraries included, each started for one purpose."""
    return {
        "25 series x 20 steps": peak_memory(_decode_alone, name, dtype, 25),
        f"a training step, {BATCH} x {LENGTH}, rank {RANK}": peak_memory(our_steps, name, dtype, 2),
        "the same, recomputing (M2_RECOMPUTE=1)": peak_memory(our_steps, name, dtype, 2, True),
    }


def memory_table(result: dict) -> str:
    rows = [f"| {what} | {peak:.1f} |" for what, peak in result["memory"].items()]
    return "\n".join(
        [f"| {result['backbone']}, {result['dtype']}: peak memory | GB |", "|---|---|", *rows]
    )


def _decode_alone(name: str, dtype: str, count: int) -> None:
    generate(load(name, dtype)[0], prompts_of(count), CONFIG)


def _row(label: str, took: float, limit: float | None = None) -> dict:
    return {"what": label, "seconds": round(took, 3)} | (
        {"limit_seconds": round(limit, 3)} if limit else {}
    )


def table(rows: list[dict], title: str) -> str:
    """A table as book/speed.md has it; the last row is ours."""
    lines = [f"| {title} | seconds | ours is faster by | of the limit |", "|---|---|---|---|"]
    for row in rows:
        share = f"{row['limit_seconds'] / row['seconds']:.0%}" if "limit_seconds" in row else ""
        scaled = f" ({row['measured']} measured)" if "measured" in row else ""
        factor = f"{row['seconds'] / rows[-1]['seconds']:.1f}" if row is not rows[-1] else ""
        lines.append(f"| {row['what']}{scaled} | {row['seconds']:.2f} | {factor} | {share} |")
    return "\n".join(lines)


def titles(result: dict) -> dict[str, str]:
    """What each table of a record measured."""
    sizes, model = result["sizes"], result["backbone"]
    return {
        "decode": f"{model}: {sizes['series']} series x 20 steps",
        "train": f"{model}: a training step, {sizes['batch']} x {sizes['length']}, rank {sizes['rank']}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--backbone", default="smollm2-135m", help=f"a name or path, or {QWEN}")
    parser.add_argument("--series", type=int, default=50, help="how many are forecast")
    parser.add_argument("--curve", type=int, default=50, help="steps of the loss curves (0: none)")
    parser.add_argument("--record", action="store_true", help="write into benchmarks/results")
    parser.add_argument(
        "--memory", action="store_true", help="measure the peak memory of each, and nothing else"
    )
    arguments = parser.parse_args()
    name, place = arguments.backbone, torch.device(chosen_device())
    dtype = best_dtype(place.type)
    folder = ROOT / "benchmarks" / "results" if arguments.record else out_dir() / "bench"
    file = f"{Path(name).name}-{place.type}"  # of a path its last part
    if arguments.memory:
        result = {
            "backbone": name,
            "dtype": dtype,
            **provenance(place),
            "memory": memory(name, dtype),
        }
        print(memory_table(result))
        write_json(folder / f"{file}-memory.json", result)
        return
    shape = Shape.of(backbone_config("qwen2.5-0.5b" if name == QWEN else name))
    rates = {
        kind: product_rate(shape, getattr(torch, kind), place, BATCH * LENGTH) for kind in DTYPES
    }
    limits = {"flops": rates[dtype], "bytes": bandwidth(place)} | {
        f"flops_{kind}": rates[kind] for kind in DTYPES
    }
    print(f"{dtype} is the default here: the faster one in training's products")
    print({kind: f"{rate:.3g}" for kind, rate in limits.items()}, flush=True)
    result = {"backbone": name, "dtype": dtype, **provenance(place), "limits": limits}
    result["sizes"] = {"series": arguments.series, "length": LENGTH, "batch": BATCH, "rank": RANK}

    result["train"] = train_rows(name, dtype, limits)
    print(table(result["train"], titles(result)["train"]), flush=True)
    result["decode"] = decode_rows(name, dtype, arguments.series, limits)
    print(table(result["decode"], titles(result)["decode"]), flush=True)
    if arguments.curve:
        plain = plain_steps(
            load(name, dtype)[0], training_windows(), train_config(arguments.curve)
        )[1]
        result["loss_curves"] = {
            "m2lib": our_steps(name, dtype, arguments.curve)[1],
            "plain": plain,
        }
    result["growth"], result["sharing"] = growth(name, dtype), sharing(name, dtype)
    print(sharing_table(result), flush=True)
    path = folder / f"{file}.json"
    write_json(path, result)
    print(path)


if __name__ == "__main__":
    main()
