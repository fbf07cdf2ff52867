"""`python -m benchmarks.precision`: how many greedy forecasts depend on the dtype, and on the
processor.

The likeliest token is taken each time, and where two are nearly as likely the last bit of a sum
decides. From there on two forecasts may have nothing in common. The untuned model of the
replication forecasts the 50 validation series in several ways, each in a process of its own, and
the texts are compared with those of the record in float32. Instructions stand in for an older
processor: PyTorch, oneDNN and MKL are told to use AVX2 where they would use AVX-512, and so add up
in another order. Writes report/results/precision.json.
"""

import argparse
import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import torch

from m2lib.decoding import forecast
from m2lib.files import ROOT, write_json
from m2lib.model import load_backbone
from m2lib.series import load_series, series_mae, to_integers
from m2lib.study import REPLICATION, load_record
from m2lib.study.provenance import provenance

RUN = "baseline"
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
WAYS: dict[str, tuple[str, dict[str, str]]] = {
    "float32, again": ("float32", {}),
    "float32, AVX2 instructions": ("float32", AVX2),
    "bfloat16": ("bfloat16", {}),
    "bfloat16, AVX2 instructions": ("bfloat16", AVX2),
}
"""The dtype, and what the process is started with."""


def forecasts(dtype: str) -> list[dict[str, Any]]:
    """The text and the error (MAE, scaled units) of each series of the record, in its order."""
    profile, series = REPLICATION["report"], load_series()
    record = load_record(profile, RUN)
    ids, protocol = list(record.series), record.protocol
    backbone = load_backbone(profile.backbone, dtype=dtype)
    found = forecast(
        backbone, series.contexts[ids], protocol, batch_size=record.batch_size, ids=ids
    )
    truths = to_integers(series.truths[ids], series.scales[ids], protocol.rounding)
    return [
        {"text": ahead.texts[0], "mae": float(series_mae(ahead.values[0], truth))}
        for ahead, truth in zip(found, truths, strict=True)
    ]


def main() -> None:
    """Forecast in each way, compare with the record, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS))
    parser.add_argument("--dtype", help=argparse.SUPPRESS)  # of a process that forecasts
    options = parser.parse_args()
    if options.dtype:
        print(json.dumps(forecasts(options.dtype)))
        return
    recorded = load_record(REPLICATION["report"], RUN)
    rows = []
    for way in options.ways:
        dtype, variables = WAYS[way]
        command = [sys.executable, "-m", "benchmarks.precision", "--dtype", dtype]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | variables,
            capture_output=True,
            text=True,
            check=True,
        )
        found = json.loads(done.stdout.splitlines()[-1])
        errors = [one["mae"] for one in found]
        differing = sum(
            one["text"] != entry["text"]
            for one, entry in zip(found, recorded.series.values(), strict=True)
        )
        rows.append(
            {
                "way": way,
                "differing": differing,
                "mean": np.mean(errors),
                "median": np.median(errors),
            }
        )
        print(rows[-1], flush=True)
    where = provenance(torch.device("cpu"))
    write_json(
        ROOT / "report" / "results" / "precision.json",
        where | {"series": len(recorded.series), "rows": rows},
    )


if __name__ == "__main__":
    main()
