SAID = []

md(r"""
# 13 · More accuracy per FLOP

*Beyond the report, whose budget our final run hardly touched.*

The final adapter of notebook 9 spent a small part of the report's budget. What would the rest buy? To spend it blindly would
be foolish: first one looks for what buys most at *equal* cost, in short runs, then one spends. This notebook does both. It
puts adapters on more layers, trains on series that never repeat, tries ten variants at the same FLOPs, asks what
the pretrained weights are worth at all, and draws the curve of error against FLOPs.

**You will see**

- adapters on any linear layer in six lines, equal to the library's, and their price by the rules and by PyTorch's counter;
- training text without end, a function of the step alone, with no test series in it;
- ten trials at equal FLOPs, what helped and what did not;
- two controls that a sceptic asks for: shuffled weights, and a small transformer that starts from nothing;
- one long run, the power law through its milestones, and what it says about the whole budget, with due caution.

**You need** the LoRA layer of notebook 6, the accountant of notebook 5, and the final adapter and paired intervals of
notebook 9; a minute on two cores, with the small model.
""")

code(r'''
import copy
from dataclasses import asdict

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from m2lib.accounting import PROJECTIONS, TARGETS, Shape, forward_flops, total, train_step_flops
from m2lib.model import LoRALinear, backbone_config, inject_lora, load_adapter, load_backbone, text_to_ids, trainable
from m2lib.paper import more_per_flop, panels, plots
from m2lib.series import bootstrap_interval, draw_systems, encode, generate_series, load_series, paired_gain
from m2lib.series import split_ids, summarise
from m2lib.study import ARMS, EXPERIMENTS, TUNED, active_profile, adapter_path, published_maes, recorded_yardsticks, run
from m2lib.study import setting
from m2lib.training import TrainConfig, window_loss

plots.use_style()
pd.set_option("display.width", 170, "display.max_colwidth", None, "display.max_columns", 20)
profile, study = active_profile(), panels.shown_profile()
print(setting(profile))
series = load_series()
split = split_ids(len(series))
''')

md(r"""
## What held the final run back?

Two numbers of its record raise a suspicion each.
""")

code(r'''
final = panels.finished_record(study, "final")
spent, steps = final.flops["training"]["coursework"], len(final.loss_curve)
print(f"{steps:,} steps on {len(split.train)} series: each was seen {steps / len(split.train):.1f} times")
print(f"training loss of the last 200 steps: {np.mean(final.loss_curve[-200:]):.2f} nats a token")
print(f"validation loss at the end: {final.evaluations[-1]['loss']:.2f} nats a token")
print(f"training FLOPs by the rules: {spent:.2g}, {spent / study.budget:.1%} of the budget")
''', CHECK)

md(r"""
The first: training stands lower than validation, so the model has begun to learn its 900 series by heart. More of
them would help, and these series cost nothing: they are simulated. The second needs a look at the recipe: adapters on
queries and values only is how the LoRA paper did it, when the question was how *few* parameters would do. Ours is how few
*FLOPs*, and most of these go through the frozen layers whether they have adapters or not.

## Adapters anywhere

A block has seven linear layers: query, key, value and output of the attention, gate, up and down of the MLP. To put the
layer of notebook 6 around any choice of them takes a walk through the modules:
""")

code(r'''
def adapt(model, rank, targets, generator):
    found = [path for path, _ in model.named_modules() if path.split(".")[-1] in targets]
    model.requires_grad_(False)
    for path in found:
        parent = model.get_submodule(path.rpartition(".")[0])
        name = path.split(".")[-1]
        setattr(parent, name, LoRALinear(getattr(parent, name), rank, alpha=rank, generator=generator))
    model.lm_head.bias.requires_grad_(True)
''')

code(r'''
tiny, everywhere = load_backbone("tiny", device="cpu", dtype="float32").model, tuple(PROJECTIONS)
by_hand, by_library = copy.deepcopy(tiny), copy.deepcopy(tiny)
adapt(by_hand, 4, everywhere, torch.Generator().manual_seed(0))
inject_lora(by_library, 4, targets=everywhere, generator=torch.Generator().manual_seed(0))
ours, theirs = trainable(by_hand), trainable(by_library)
assert ours.keys() == theirs.keys()
assert all(torch.equal(ours[name], theirs[name]) for name in ours)
print(*everywhere)
''', CHECK)

md(r"""
What do they cost? By the rules an adapter from $d_{in}$ to $d_{out}$ numbers, on $N$ tokens, is a product with $A$, one with
$B$, the scale and the sum: $N r (2 d_{in} - 1) + N d_{out} (2r - 1) + 2 N d_{out}$. (The rules count keys and values as wide
as queries.) And what is really computed, forward and back, PyTorch counts for us.
""")

code(r'''
def adapter_flops(tokens, rank, d_in, d_out):
    return tokens * rank * (2 * d_in - 1) + tokens * d_out * (2 * rank - 1) + 2 * tokens * d_out


shape = Shape.of(backbone_config("smollm2-135m"))
d, mlp = shape.width, shape.mlp
widths = {"q_proj": (d, d), "k_proj": (d, d), "v_proj": (d, d), "o_proj": (d, d)}
widths |= {"gate_proj": (d, mlp), "up_proj": (d, mlp), "down_proj": (mlp, d)}
for targets in (TARGETS, ("k_proj", "down_proj"), everywhere):
    plain = shape.layers * sum(adapter_flops(800, 4, *widths[name]) for name in targets)
    assert plain == forward_flops(shape, 800, rank=4, targets=targets)["lora"]
''')

code(r'''
tokens = torch.arange(48).reshape(1, 48) % 12 + 1
by_library.set_attn_implementation("eager")  # the counter does not see the fused kernel on a CPU
with FlopCounterMode(display=False) as counter:
    window_loss(by_library, tokens).backward()
expected = train_step_flops(
    Shape.of(tiny.config), 48, rank=4, targets=everywhere, batch=1, convention="executed"
)
print(f"counted by PyTorch {counter.get_total_flops():,}, by the accountant {total(expected):,}")
assert counter.get_total_flops() == total(expected)
''', CHECK)

md(r"""
The difference is 0. Now the two choices at the size of our model, for a step on one whole series of 800 tokens:
""")

code(r'''
model, rows = load_backbone(study.backbone), {}
for targets, rank in ((TARGETS, 16), (everywhere, 16), (everywhere, 4)):
    trained = 13 + shape.layers * sum(rank * sum(shape.projections[name]) for name in targets)
    flops = {
        kind: total(train_step_flops(shape, 800, rank=rank, targets=targets, batch=1, convention=kind))
        for kind in ("coursework", "executed")
    }
    rows["q, v" if targets == TARGETS else "all seven", rank] = {"trained parameters": trained} | flops
table = pd.DataFrame(rows).T.rename_axis(["adapters on", "rank"])
table["by the rules, of the first"] = table["coursework"] / table["coursework"].iloc[0]
table.map("{:.4g}".format)
''', CHECK)

md(r"""
Adapters everywhere cost a few percent more by the rules, although ten times as many parameters train at rank 16: the
price of a step is the frozen model's. At rank 4 they are as cheap as queries and values at rank 16.

## Series without end

The data set's series are simulated from random systems (notebook 1), the first thousand that seed 0 gives. Any other seed gives
others. So let the *step* be the seed: then no series repeats, nothing is stored, and a run that is killed and resumed meets the
same text at the same step.
""")

code(r'''
def fresh_text(step):
    drawn = generate_series(1, seed=1 + step)  # never seed 0
    return encode(drawn.trajectories[0], drawn.scales[0])


for step in range(3):
    print(f"step {step}: {fresh_text(step)[:60]}…")
''', CHECK)

md(r"""
Is a test system among those that the long run sees? Each system is eight random numbers. We compare all of them:
""")

code(r'''
seen = {tuple(draw_systems(1, 1 + step)[0]) for step in range(EXPERIMENTS["best"].train["steps"])}
filed = {tuple(system) for system in draw_systems(len(series), 0)}
print(f"{len(seen):,} systems to train on, {len(filed):,} in the data set, in both: {len(seen & filed)}")
assert len(seen) == EXPERIMENTS["best"].train["steps"]
assert not seen & filed
''', CHECK)

md(r"""
That these are the texts of the recorded run one can check, too. Before its first step the model is untuned, and the first recorded
loss has to be the untuned model's on the text of step 0:
""")

code(r'''
best = panels.finished_record(study, "best")
with torch.no_grad():
    loss = window_loss(model.model, torch.tensor([text_to_ids(fresh_text(0))], device=model.device)).item()
print(f"untuned on the text of step 0: {loss:.2f} nats a token; recorded at the first step {best.loss_curve[0]:.2f}")
assert abs(loss - best.loss_curve[0]) < 0.02
''')

md(r"""
## Run it

The long run at the active profile: at `slice` two steps, on two new series, and three forecasts.
""")

code(r'''
live = run("best")
print(f"{live.steps_run} steps, losses {', '.join(f'{loss:.3f}' for loss in live.loss_curve[:2])}")
assert live.status == "done"
assert set(live.series) <= set(split.test)
''')

md(r"""
## Ten trials at equal FLOPs

All start from `trial/rate` of notebook 9: 240 steps of one whole series, rank 16 on queries and values, rate 0.003. Each trial
changes what its name says, and spends the same FLOPs by the rules within 3%. The loss is of ten validation series, the errors are of all 50,
decoded greedily.
""")

code(r'''
trials = panels.finished_records(study, more_per_flop.START, *ARMS)
rows = {name.split("/")[1]: more_per_flop.arm(name, record) for name, record in trials.items()}
table = pd.DataFrame(rows).T.drop(columns="name")
table["flops"] = table["flops"].map("{:.3g}".format)
table["seconds"] = table["seconds"].map("{:.0f}".format)
table["loss"] = table["loss"].map("{:.3f}".format)
table[["mean", "median"]] = table[["mean", "median"]].map("{:.1f}".format)
table
''', CHECK)

md(r"""
TEXT ABOUT ARMS

## What was pretraining worth?

The sceptic's question: would any model have done? Two of the trials ask it. `shuffled` has the same architecture and the
same numbers in every matrix, in random order, so that what was learned is gone. `small` is a transformer of 2.4 million
parameters with random weights, all of which train; it is so small that the same FLOPs buy it 30 times as many series.
""")

code(r'''
fig, ax = plt.subplots(figsize=(8, 3.6))
names = {"linear-simulated": "pretrained", "shuffled": "pretrained, shuffled", "small": "small, from random weights"}
for name, words in names.items():
    record = trials[f"trial/{name}"]
    curve = np.array(record.loss_curve)
    n = max(1, len(curve) // 30)
    smooth = curve[: len(curve) // n * n].reshape(-1, n).mean(axis=1)
    flops = record.flops["training"]["coursework"] * (np.arange(len(smooth)) + 0.5) / len(smooth)
    ax.plot(flops, smooth, label=words)
ax.set(xlabel="training FLOPs by the rules", ylabel="training loss (nats a token)", ylim=(0.6, 2.6))
ax.legend();
''', HIDE, alt="Training loss against FLOPs of three trials at equal FLOPs: the pretrained model, the same with its weights shuffled, and a small transformer from random weights.")

md(r"""
TEXT ABOUT CONTROLS

## The long run

The recipe that the trials led to, beside the final run's:
""")

code(r'''
theirs, ours = (asdict(TrainConfig(**record.config["train"])) for record in (final, best))
rows = {key: (str(theirs[key]), str(ours[key])) for key in ours if theirs[key] != ours[key]}
rows["series"] = "900, repeated", "one a step, never repeated"
pd.DataFrame(rows, ["final", "best"]).T
''', CHECK)

md(r"""
The rate stays at its peak for the first four fifths, and only then falls (*cooldown*). So the milestones on the way are all
at the same rate, and their curve is one that a longer run would follow.
""")

code(r'''
print(f"{best.backbone['id']} ({best.backbone['dtype']}) on {best.device}, commit {best.commit[:7]}")
print(f"{len(best.loss_curve):,} steps; {best.flops['training']['coursework']:.3g} FLOPs by the rules")
way, end = more_per_flop.learned(best)
rows = {f"step {at.step:,}": (f"{at.flops:.2g}", at.loss, at.mae_mean, at.mae_median) for at in (*way, end)}
pd.DataFrame(rows, ["FLOPs", "loss", "mean MAE", "median MAE"]).T
''', CHECK)

md(r"""
## A power law

On logarithmic axes the losses lie near a straight line, $\log L = a + b \log C$: a **power law** of the FLOPs $C$, as in larger
models and for other texts (Kaplan et al., below). Least squares finds it:
""")

code(r'''
flops, losses = np.array([at.flops for at in way]), np.array([at.loss for at in way])
b, a = np.polyfit(np.log(flops), np.log(losses), 1)
law = more_per_flop.laws(way)["loss"]
assert np.isclose(b, law.exponent)
assert np.isclose(np.exp(a + b * np.log(1e16)), law.at(1e16))
low, high = law.exponent_interval
print(f"exponent {b:.3f}, 95% interval {low:.3f} to {high:.3f}: ten times the FLOPs, {1 - 10**b:.0%} less loss")
''', CHECK)

code(r'''
panels.show("more_per_flop");
''', alt="Left, validation loss against training FLOPs on logarithmic axes: milestones of the long run near a falling straight line with its interval, the end of the run below the line, the trials and the two controls beside it. Right, mean and median MAE of the same milestones, with the errors of the mean, the nearest analogue and log-VAR as lines, and the test errors of the final adapter and of the published one.")

md(r"""
TEXT ABOUT FIGURE

What would the whole budget buy? The law says what a run at the full rate would come to, with an interval that widens with
the distance from what was measured:
""")

code(r'''
rows = {}
for name, law in more_per_flop.laws(way).items():
    low, high = law.interval(study.budget)
    rows[more_per_flop.MEASURED[name]] = f"{law.exponent:.2f}", f"{law.at(study.budget):.2f}", f"{low:.2f} to {high:.2f}"
pd.DataFrame(rows, ["exponent", "at the whole budget", "95% interval"]).T
''', CHECK)

md(r"""
Caution is due for three reasons. The budget is more than ten times as far as the last milestone. A law through five points has few
degrees of freedom. And a loss cannot fall for ever: the last digits of a rounded series are partly noise, and no model will
predict them, so that the line must bend somewhere.

## On the test series

Everything was chosen. Now the test series are opened, once: greedily, and by 48 samples (notebook 11).
""")

code(r'''
errors = {"best, greedy": best.maes(), "final, greedy": final.maes(), "published final": published_maes("final")}
errors |= {f"{who}, median of 48 samples": record.maes() for who, record in panels.sampled(study).records.items()}
plain = recorded_yardsticks("test")
errors |= {name: plain[name] for name in ("nearest analogue in the context", "log-VAR(3), fitted to the context", TUNED)}
rows = {}
for who, found in errors.items():
    values = np.array(list(found.values()))
    for of in (np.mean, np.median):
        low, high = bootstrap_interval(values, of)
        rows.setdefault(who, []).extend((f"{of(values):.1f}", f"{low:.1f} to {high:.1f}"))
pd.DataFrame(rows, ["mean", "95% interval", "median", "95% interval"]).T
''', CHECK)

md(r"""
Pair by pair, on the same series, above 0 where the long run is better:
""")

code(r'''
rows = {}
for mine in ("best, greedy", "best, median of 48 samples"):
    for other in list(errors)[1:3] + list(errors)[-3:]:
        gain = paired_gain(errors[mine], errors[other])
        low, high = gain["mean interval"]
        rows[mine, other] = f"{gain['better']} of {len(split.test)}", f"{gain['mean']:.1f}", f"{low:.1f} to {high:.1f}"
pd.DataFrame(rows, ["better on", "by", "95% interval"]).T
''', CHECK)

md(r"""
TEXT ABOUT TEST

## In short

TEXT

## Exercises
""")

md(r"""
### Exercise 1

At which rank do adapters on queries and values cost as much by the rules as rank 4 on all seven layers? Take a text of 800
tokens. How many parameters does each choice train?
""")

code(r'''
goal = forward_flops(shape, 800, rank=4, targets=everywhere)["lora"]
ranks = {rank: forward_flops(shape, 800, rank=rank)["lora"] for rank in range(1, 65)}
same = min(ranks, key=lambda rank: abs(ranks[rank] - goal))
parameters = [same * sum(sum(shape.projections[name]) for name in TARGETS), 4 * sum(map(sum, shape.projections.values()))]
print(f"rank {same}: {shape.layers * parameters[0]:,} parameters, against {shape.layers * parameters[1]:,}")
assert abs(ranks[same] / goal - 1) < 0.05
assert parameters[0] < 1.5 * parameters[1]
''', SOLUTION, CHECK)

md(r"""
### Exercise 2

No test system is among the simulated ones. But how near do they come? Put the six parameters on a scale on which each range of
the recipe has length 1, and find for each test system the nearest of the 900 training systems, and the nearest of the 5,152
of the long run. What do you conclude about learning by heart?
""")

code(r'''
from scipy.spatial import cKDTree

from m2lib.series.recipe import RECIPE

ranges = np.array(list(RECIPE.values()))[:6]
unit = lambda systems: (systems[:, :6] - ranges[:, 0]) / (ranges[:, 1] - ranges[:, 0])
filed, fresh = draw_systems(len(series), 0), np.array(sorted(seen))
near = {
    name: np.median(cKDTree(unit(systems)).query(unit(filed[list(split.test)]))[0])
    for name, systems in {"900": filed[list(split.train)], "5,152": fresh}.items()
}
# In six dimensions even 5,152 points leave large gaps: (5152 / 900)^(1/6) is 1.3.
assert near["5,152"] < near["900"] < 1.6 * near["5,152"]
print({name: round(float(distance), 2) for name, distance in near.items()})
''', SOLUTION, CHECK)

md(r"""
### Exercise 3

How far can the law be trusted? Fit it to all milestones but the last, and predict the loss of the last. Is it inside the
interval?
""")

code(r'''
shorter = more_per_flop.laws(way[:-1])["loss"]
low, high = shorter.interval(way[-1].flops)
print(f"predicted {shorter.at(way[-1].flops):.3f} ({low:.3f} to {high:.3f}), found {way[-1].loss:.3f}")
assert low < way[-1].loss < high
''', SOLUTION, CHECK)

md(r"""
### Exercise 4

Do adapters on all seven layers still vanish when the training is done? Load the long run's into the small model in float32, keep
the logits of a text, merge, and compare.
""")

code(r'''
from m2lib.model import lora_layers, merge_lora

exact = load_backbone(study.backbone, dtype="float32")
load_adapter(exact.model, adapter_path(study, "best"))
ids = torch.tensor([text_to_ids(fresh_text(0))[:200]], device=exact.device)
with torch.no_grad():
    apart, adapted = exact.model(ids).logits, len(lora_layers(exact.model))
    merged = merge_lora(exact.model)(ids).logits
assert adapted == 7 * shape.layers
assert not lora_layers(exact.model)
torch.testing.assert_close(merged, apart, rtol=1e-3, atol=1e-3)
''', SOLUTION)

md(r"""
## Further reading

- Hu et al., [LoRA: low-rank adaptation of large language models](https://arxiv.org/abs/2106.09685), 2021: where adapters on queries
  and values come from.
- Dettmers et al., [QLoRA: efficient finetuning of quantized LLMs](https://arxiv.org/abs/2305.14314), 2023: adapters on all linear
  layers, and why.
- Kaplan et al., [Scaling laws for neural language models](https://arxiv.org/abs/2001.08361), 2020, and Hoffmann et al.,
  [Training compute-optimal large language models](https://arxiv.org/abs/2203.15556), 2022: loss against FLOPs.
- Hägele et al., [Scaling laws and compute-optimal training beyond fixed training
  durations](https://arxiv.org/abs/2405.18392), 2024: a constant rate with a cooldown, so that one run gives the curve.
- Tan et al., [Are language models actually useful for time series forecasting?](https://arxiv.org/abs/2406.16964), 2024: the
  sceptic's controls on other data.

[Previous: 12 · Yardsticks](12_yardsticks.ipynb) · [Next: 14 · Your own series](14_your_own_series.ipynb)
""")
