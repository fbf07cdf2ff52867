SAID = []

md(r"""
# 11 · How sure is the forecast?

*Beyond the report, which set a probabilistic score aside as too dear.*

A forecast is one number a step, and says nothing about how far to trust it. But a language model is a machine for
probabilities: ask it 48 times, and the answers lie close together where it is sure and far apart where it is not. Is that
spread worth anything? This notebook scores it, compares it with a competitor that has no language model, chooses the
temperature, mends the bands where they are too narrow, and looks at the bill.

**You will see**

- how a token is drawn at a temperature, by hand, equal to the library's samples token for token;
- the CRPS from its definition as an integral, by pairs of samples, and fair: three ways to one number;
- coverage, reliability, ranks and sharpness of recorded samples, beside a bootstrap of the log-VAR(3);
- fan charts, and whether the spread knows about the error;
- what 48 samples cost, by the three conventions and in seconds.

**You need** the final adapter and the CRPS of notebook 9, and the three conventions of notebook 5; half a minute on two
cores, with the small model.
""")

code(r'''
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

from m2lib.accounting import CONVENTIONS, Shape, forecast_flops, total
from m2lib.forecasting import DecodeConfig, cut_prompt, forecast, generate
from m2lib.model import SEMICOLON_ID, SYMBOLS, backbone_config, ids_to_text, load_adapter, load_backbone, text_to_ids
from m2lib.paper import panels, plots, uncertainty
from m2lib.series import crps_fair, encode, load_series, series_mae, to_integers
from m2lib.study import SAMPLED_AT, TEMPERATURES, active_profile, adapter_path, recorded_forecast, setting

plots.use_style()
pd.set_option("display.width", 150)
profile, study = active_profile(), panels.shown_profile()
print(setting(profile))
series = load_series()
''')

md(r"""
## Why one number is not enough

Here is what the final adapter writes after two test series, the likeliest token each time. Which of the two forecasts would
you rely on?
""")

code(r'''
final = panels.finished_record(study, "final")
ranked = sorted(final.series, key=lambda i: final.series[i]["mae"])
first, second = ranked[len(ranked) // 5], ranked[-1]
for i in (first, second):
    print(f"series {i}: {final.series[i]['text'][:100]}…")
''', CHECK)

code(r'''
fig, axes = plt.subplots(1, 2, figsize=(9.6, 3))
for ax, i in zip(axes, (first, second)):
    scaled = to_integers(series.trajectories[i], series.scales[i])
    forecast_of_it = recorded_forecast(final, series, i)
    plots.plot_forecast(ax, series.time, scaled, forecast_of_it, f"series {i}: MAE {final.series[i]['mae']:.0f}")
    ax.set_xlabel(plots.MODEL_TIME)
axes[0].set_ylabel("scaled units")
plots.forecast_legend(fig)
''', HIDE, alt="Two test series, prey and predator against time, with the final adapter's greedy forecast of the last 20 steps dotted: on the left it lies on the truth, on the right it turns several steps too early and the difference is filled red.")

md(r"""
Nothing in the two texts tells them apart: both are smooth, well-formed and confident. The model did hesitate, though, and
greedy decoding threw that away: at each token it kept the winner and forgot how narrowly the winner had won.

## Drawing a forecast, by hand

At each step the model gives 13 logits. Softmax makes probabilities of them, and instead of the likeliest token we may
**draw** one. A **temperature** $T$ divides the logits first: $p_k \propto e^{l_k / T}$. At 1 the tokens are drawn as the
model believes; below 1 the likely become likelier still, and towards 0 the draw becomes greedy. The first digits of a number
are seldom in doubt, so look at the third:
""")

code(r'''
backbone = load_backbone(study.backbone, dtype="float32")  # exact enough for the equality below
load_adapter(backbone.model, adapter_path(study, "final"))
text = encode(series.contexts[second], series.scales[second])
prompt = cut_prompt(text_to_ids(text), DecodeConfig(context_tokens=64))


@torch.inference_mode()
def next_logits(ids):
    """What the model says about the token that follows: 13 logits."""
    return backbone.model(torch.tensor([ids], device=backbone.device)).logits[0, -1].float().cpu()


print(f"…{ids_to_text(prompt)}")
''')

code(r'''
begun = list(prompt)
for _ in range(2):  # two digits, the likeliest
    begun.append(int(next_logits(begun).argmax()))
logits = next_logits(begun)
print(f"after …{ids_to_text(begun[-12:])}")
shares = {f"T = {T:g}": (logits / T).softmax(-1).numpy() for T in (1.5, *reversed(TEMPERATURES), 0.1)}
pd.DataFrame(shares, list(SYMBOLS)).T.round(3)
''')

md(r"""
To draw from such a row, take one number between 0 and 1, run along the row adding up the shares, and stop where the sum
passes the number. A token with a third of the probability is then hit by a third of the numbers. Do that token after token,
each time with what has been drawn before in the prompt, until the step's semicolon:
""")

code(r'''
def pick(logits, temperature, draw):
    """The token at which the running sum of the shares passes the draw."""
    running = (logits / temperature).softmax(-1).cumsum(-1)
    return int((running <= draw).sum())


def sample(prompt, n, temperature, generator):
    """One step more, n times: each drawn token by token."""
    written = [[] for _ in range(n)]
    while any(text[-1:] != [SEMICOLON_ID] for text in written):
        for text, draw in zip(written, torch.rand(n, generator=generator)):
            if text[-1:] != [SEMICOLON_ID]:
                text.append(pick(next_logits(prompt + text), temperature, draw))
    return written
''')

code(r'''
by_hand = sample(prompt, 3, temperature=0.7, generator=torch.Generator().manual_seed(0))
config = DecodeConfig(temperature=0.7, n_samples=3, steps=1)
(by_library,), _ = generate(backbone.model, [prompt], config, torch.Generator().manual_seed(0))
assert by_hand == by_library
print(*map(ids_to_text, by_hand))
''')

md(r"""
The library's `generate` draws the same numbers and comes to the same tokens. What it does better is work: the prompt is
read once for all samples (one prefill), its keys and values are kept, and samples that are done leave the batch.

Now a real forecast: some samples of the first five steps after the whole context, through the grammar.
""")

code(r'''
found = panels.sampled(study)  # what is recorded; more of it below
protocol = DecodeConfig(constrained=True, temperature=SAMPLED_AT["final"], n_samples=6, steps=5, max_new_tokens=50)
(live,) = forecast(backbone, series.contexts[[second]], protocol)
print(*live.texts[:3], sep="\n")
recorded = found.samples["final"][found.ids.index(second)][:, :5]
inside = (recorded.min(axis=0) <= live.point) & (live.point <= recorded.max(axis=0))
assert inside.mean() >= 0.8
assert not any(live.repairs)
''')

md(r"""
These are three of the six; they begin alike, and within a few steps they part. For the whole horizon we look at recorded
samples: every test series, and every validation series, was continued 48 times, by the untuned model, by the final adapter, and by the best
adapter of notebook 13 where its record is there. Beside them stands a competitor without a language model.
""")

code(r'''
samples, truths = found.samples["final"], found.truths  # (series, samples, steps, 2) and (series, steps, 2)
for name, drawn in found.samples.items():
    T = f", temperature {found.records[name].protocol.temperature}" if name in found.records else ""
    print(f"{name:22s}{drawn.shape[1]} samples of {len(drawn)} series{T}")
''', CHECK)

md(r"""
The **competitor** is the log-VAR(3) of notebook 1's yardsticks, a linear regression of the logarithms on their last three
steps, with a *residual bootstrap*: simulate it on, and add at each step one of the errors that it made on its own context,
drawn with replacement. Its forecasts part, too, and it takes milliseconds. `log_var_paths` is twenty lines of numpy.

## The score

How good are 48 futures, when one true one comes? Take a single value of a typical series: the prey ten steps ahead. The samples are a
distribution, $F(z)$ is the share of them at or below $z$. The best distribution would have been a single jump from 0 to 1 at
the truth $y$. The **continuous ranked probability score** is the area between the two, squared:

$$\mathrm{CRPS} = \int \big(F(z) - \mathbf{1}[z \geq y]\big)^2 \, dz$$

All our numbers are integers, and between two integers nothing changes, so a sum over the integers is the integral.
""")

code(r'''
typical = ranked[len(ranked) // 2]
row = found.ids.index(typical)
x, y = np.sort(samples[row, :, 9, 0]), truths[row, 9, 0]
z = np.arange(min(x[0], y), max(x[-1], y))
F = (x[:, None] <= z).mean(axis=0)
integral = np.sum((F - (z >= y)) ** 2)
print(f"series {typical}: samples from {x[0]} to {x[-1]}, truth {y}: CRPS {integral:.2f}")
''', CHECK)

code(r'''
fig, ax = plt.subplots(figsize=(8, 2.8))
edges = np.arange(z[0] - 40, z[-1] + 42)
share, jump = (x[:, None] <= edges).mean(axis=0), (edges >= y).astype(float)
ax.fill_between(edges, share, jump, step="post", color=plots.COLOURS["error"], alpha=0.25, lw=0)
ax.step(edges, share, where="post", color=plots.COLOURS["ours"], label="share of the samples at or below")
ax.step(edges, jump, where="post", color="0.25", label="truth")
ax.set(xlabel="prey, ten steps ahead (scaled units)", ylabel="F")
ax.legend(loc="upper left");
''', HIDE, alt="The distribution function of the samples of one value, rising in steps from 0 to 1, and the truth as one jump from 0 to 1; the area between the two is shaded.")

md(r"""
The same number comes without any integral (Gneiting and Raftery, below): the mean distance of a sample from the truth, less
half the mean distance of two samples from each other. The second term is what rewards honesty: a spread costs nothing if
it is needed.
""")

code(r'''
from_truth, from_each_other = np.abs(x - y).mean(), np.abs(x[:, None] - x).mean()
assert np.isclose(from_truth - from_each_other / 2, integral)
print(f"{from_truth:.2f} - {from_each_other:.2f} / 2 = {from_truth - from_each_other / 2:.2f}")
''', CHECK)

md(r"""
One thing is unfair in it. Among the pairs are those of a sample with itself, at distance 0, and with few samples they are
many, so that fewer samples score worse for no other reason than that they are few. The **fair** score leaves them out,
and that is the library's `crps_fair`:
""")

code(r'''
m = len(x)
fair = from_truth - np.abs(x[:, None] - x).sum() / (m * (m - 1)) / 2
assert np.isclose(fair, crps_fair(x.reshape(-1, 1, 1), np.array([[y]])))


def crps_plain(samples, truth):
    """With a sample's distance from itself among the pairs."""
    m = len(samples)
    return crps_fair(samples, truth) + np.abs(samples[:, None] - samples).mean() / (2 * (m - 1))


assert np.isclose(crps_plain(x.reshape(-1, 1, 1), np.array([[y]])), integral)
print(f"fair {fair:.2f}, plain {integral:.2f}")
''', CHECK)

code(r'''
rows = {}
for n in (2, 4, 8, 16, samples.shape[1]):
    pairs = [(drawn[:n], truth) for drawn, truth in zip(samples, truths)]
    rows[n] = [np.mean([score(*pair) for pair in pairs]) for score in (crps_plain, crps_fair)]
pd.DataFrame(rows, ["plain", "fair"]).round(1).rename_axis(columns="samples")
''', CHECK)

md(r"""
The plain score of the same forecaster falls as samples are added; the fair one hardly moves. So the CRPS of the 12
samples of notebook 9 and of 48 here may be compared, and both with the MAE of a single forecast, for of a single certain
forecast the CRPS is the absolute error.

## Bands, and the loss of a quantile

A forecaster may also be asked for a band: "80% of the time the truth will be in here". The central 80% band runs from the
10th to the 90th percentile of the samples, and **coverage** is the share of true values that it holds:
""")

code(r'''
from m2lib.series import DECILES, band, coverage, quantile_loss

drawn, truth = samples[row], truths[row]
low, high = np.percentile(drawn, [10, 90], axis=0)
by_hand = np.mean([low[s, v] <= truth[s, v] <= high[s, v] for s in range(20) for v in range(2)])
assert np.allclose((low, high), band(drawn, 0.8))
assert by_hand == coverage(drawn, truth, 0.8)
print(f"series {typical}: the 80% band holds {by_hand:.0%} of the {truth.size} true values")
''', CHECK)

md(r"""
Coverage alone is easily had: a band from zero to infinity holds everything. So there is a price on width. The **quantile
loss** charges a quantile $q$ of level $t$ with $t\,(y - q)$ if the truth lies above it and with $(1 - t)(q - y)$ if below; what
minimises it on average is the true quantile. For one value, nine levels:
""")

code(r'''
q = {t: np.quantile(x, t) for t in DECILES}
losses = {t: t * (y - q[t]) if y > q[t] else (1 - t) * (q[t] - y) for t in DECILES}
assert np.isclose(np.mean(list(losses.values())), quantile_loss(x.reshape(-1, 1, 1), np.array([[y]])))
pd.DataFrame({"quantile": q, "loss": losses}).T.round(1)
''', CHECK)

md(r"""
Averaged over *all* levels and doubled this is the CRPS again (exercise 2): two roads to one score. Divided by the mean true
value it has no unit, and is called the **weighted quantile loss**, the number that most papers on probabilistic forecasts
print.

## Which temperature?

A temperature of 1 draws from what the model has learned, 0 gives the greedy forecast every time. Five were tried: 1 itself,
0.85, 0.7, which the authors of LLMTIME take for GPT-3, and 0.5 and 0.3 on the way to greedy. The validation series decide,
by the CRPS of 12 samples of each:
""")

code(r'''
rows = {}
for who in SAMPLED_AT:
    tried = panels.finished_records(study, *(f"temperature/{who}/{T}" for T in TEMPERATURES))
    for record in tried.values():
        drawn = uncertainty.Sampled.of({who: record}, {}, series)
        holds = drawn.mean(lambda samples, truth: coverage(samples, truth, 0.8), who)
        crps, mae = (np.mean([entry[key] for entry in record.series.values()]) for key in ("crps", "mae"))
        rows[who, record.protocol.temperature] = f"{crps:.1f}", f"{mae:.1f}", f"{holds:.0%}"
table = pd.DataFrame(rows, ["CRPS", "MAE of the median", "80% band holds"]).T
for who in table.index.unique(0):
    assert table.loc[who, "CRPS"].astype(float).idxmin() == SAMPLED_AT[who]
table
''', CHECK)

md(r"""
Too cold, and the samples agree with one another more than with the truth: the bands hold too little. Too hot, and each digit
wanders off on its own. The CRPS weighs the one against the other. What it chooses for an adapter is the temperature
at which that adapter's 48 samples were drawn, which the cell asserts; the test series had no say.
""")

md(r"""
## How good are the recorded samples?

All of it on the test series, for each forecaster: the MAE of its greedy forecast and of the median of its samples, the CRPS
with its interval over the series, the weighted quantile loss, what the bands of 50, 80 and 95% hold, and **sharpness**: how
wide the 80% band is on average. Of two forecasters with the right coverage the sharper one says more.
""")

code(r'''
from m2lib.paper.uncertainty import LOG_VAR, held, median_mae
from m2lib.series import bootstrap_interval, sharpness, weighted_quantile_loss

rows = {}
for name, drawn in found.samples.items():
    crps = found.by_series(crps_fair, name)
    greedy = f"{np.mean(list(found.greedy[name].values())):.1f}" if name in found.greedy else ""
    losses = [quantile_loss(*pair) for pair in zip(drawn, truths)]
    rows[name] = {"greedy MAE": greedy, "median's MAE": f"{found.mean(median_mae, name):.1f}"}
    rows[name] |= {"CRPS": f"{np.mean(list(crps.values())):.1f}"}
    rows[name] |= {"interval": "{:.1f} to {:.1f}".format(*bootstrap_interval(crps.values()))}
    rows[name] |= {"weighted loss": f"{weighted_quantile_loss(losses, list(truths)):.3f}"}
    rows[name] |= {f"{level:.0%} holds": f"{share:.0%}" for level, share in held(found, name).items()}
    rows[name] |= {"80% width": f"{np.mean([sharpness(one, 0.8) for one in drawn]):.0f}"}
table = pd.DataFrame(rows).T
assert table["CRPS"].astype(float).idxmin() == found.shown  # the last of the language models
table
''', CHECK)

md(r"""
The spread pays. The samples of the trained models have a CRPS far below the error of their own greedy forecast, and below the
competitor's. Part of that is a better point: the median of the samples has a smaller error than the greedy forecast. The rest
is that they say where they may be wrong. The untuned model shows the opposite: wide bands, placed badly. And the competitor
is a serious one: fitted in milliseconds to 80 steps, it knows its own doubts about as well as the language model does.
It loses by its worst series.

All forecast the same series, so the differences have narrower intervals than the scores themselves. (`paired_gain` is
notebook 9's.)
""")

code(r'''
from m2lib.series import paired_gain

ours = found.by_series(crps_fair, found.shown)
others = {name: found.by_series(crps_fair, name) for name in found.samples if name != found.shown}
print(f"CRPS of {found.shown}:")
for name, theirs in (others | {"its own greedy MAE": found.greedy[found.shown]}).items():
    gain = paired_gain(ours, theirs)
    low, high = gain["mean interval"]
    print(f"than {name:27s} better on {gain['better']} of {len(ours)}, by {gain['mean']:.1f} ({low:.1f} to {high:.1f})")
    assert low > 0
''', CHECK)

md(r"""
## Do the bands keep their promise?

A **reliability plot** asks all levels at once: the share of true values in the band against the share that was promised. On
the diagonal a forecaster keeps its word; below it, it is too sure of itself. Even samples that are exactly right fall a
little short, because the 10th percentile of 48 samples tends to lie inside that of the distribution; that is the dashed line
(exercise 1).

Beside it are histograms of the **rank of the truth**, how many of the samples lie below it. No band is needed for that, and
no handicap comes with it: if truth and samples are drawn alike, every rank is as likely as any other, and the histogram is
level. A hollow in the middle speaks of samples that are too close together, a hump of too wide ones, a slope of a bias.
""")

code(r'''
fig = uncertainty.reliability(found)
plots.save_figure(fig, "reliability");
''', alt="Left, the share of true values held against the level of the band, for the untuned model, the final adapter and the log-VAR, with the diagonal and a dashed line for right samples. Right, histograms of the rank of the truth among the samples for each of them.")

code(r'''
m = samples.shape[1]
rows = {}
for name, drawn in found.samples.items():
    low, high = np.percentile(drawn, [10, 90], axis=1)
    inside = (low <= truths) & (truths <= high)
    outside = (truths < drawn.min(axis=1)) | (truths > drawn.max(axis=1))
    rows[name] = [inside[:, start : start + 5].mean() for start in (0, 5, 10, 15)] + [outside.mean()]
rows[f"{m} right samples"] = [0.8 * (m - 1) / (m + 1)] * 4 + [2 / (m + 1)]
steps = ["steps 1 to 5", "6 to 10", "11 to 15", "16 to 20"]
pd.DataFrame(rows, [*steps, "outside all samples"]).T.map("{:.0%}".format)
''', CHECK)

md(r"""
The first four columns are the coverage of the 80% band near and far ahead, the last one is how often the truth falls outside
of all the samples: the two ends of the histogram, taken together. That is where too much confidence shows first, for the
ends are what a forecaster has to know about the rare.
""")

md(r"""
## Fans and paths

A fan chart draws the bands one inside the other. Three test series: an easy one, a typical one, and the one with the worst
CRPS.
""")

code(r'''
fig = uncertainty.fan_charts(found)
plots.save_figure(fig, "fan_charts");
''', alt="Fan charts of three test series in columns, prey above and predator below: the last 30 steps of the past, the true course, and bands of 50, 80 and 95% around the median. The fans are narrow for the easy series, a little wider for the typical one, and wide for the worst, whose truth lies outside for some steps.")

md(r"""
The fans open where the forecast gets hard: past a turning point, and further on at each turn. In the easy series they are
a few units wide, in the worst hundreds, so the doubt is in the right place even there; it is too small, and the truth
runs along the edge or outside.

A band is made step by step, and hides something: how one future hangs together. So look at the samples themselves, each a
thin line:
""")

code(r'''
crps = found.by_series(crps_fair, found.shown)
by_crps = sorted(crps, key=crps.get)
fig, axes = plt.subplots(1, 3, figsize=(11, 3.2))
for ax, i in zip(axes, (by_crps[len(by_crps) // 5], by_crps[len(by_crps) // 2], by_crps[-1])):
    row_of_it = found.ids.index(i)
    for variable, name in enumerate(("prey", "predator")):
        paths = found.samples[found.shown][row_of_it, :, :, variable].T
        ax.plot(found.time[80:], paths, color=plots.COLOURS[name], lw=0.5, alpha=0.5)
        ax.plot(found.time[80:], truths[row_of_it, :, variable], color="0.15", lw=1.6)
    ax.set(title=f"series {i}", xlabel=plots.MODEL_TIME)
axes[0].set_ylabel("scaled units");
''', HIDE, alt="The 48 sampled futures of the same three series as thin lines, prey blue and predator amber, with the truth black: each line is a smooth curve; in the worst series they are copies of one another shifted in time.")

md(r"""
Each line is a history that could be, smooth and whole. In the hard series they are nearly copies of one another, moved in time:
what the model does not know is less *how high* the peak will be than *when* it comes. A median taken step by step blurs such
copies:
""")

code(r'''
worst = found.samples[found.shown][found.ids.index(by_crps[-1])]
of_each, of_median = worst[..., 0].max(axis=1).mean(), np.median(worst, axis=0)[:, 0].max()
print(f"series {by_crps[-1]}, highest prey: of a sample {of_each:.0f} on average, of the median {of_median:.0f}")
assert of_median < of_each
''', CHECK)

md(r"""
So the best single number for each step is not a history that anything believes in. Whoever asks how high the peak will be
should take the peak of each sample, and not the peak of the median.

## Does the spread know about the error?

A forecaster that is right about its own doubts is most wrong where it is least sure. Call *spread* the mean distance of a
sample from the median. If truth and samples came from the same distribution, the truth would be as far from the median as
a sample is: error and spread would be equal on average.
""")

code(r'''
def spread(samples):
    return np.abs(samples - np.median(samples, axis=0)).mean()


rows = {}
for name, drawn in found.samples.items():
    spreads = np.array([spread(one) for one in drawn])
    errors = np.array([series_mae(np.median(one, axis=0), truth) for one, truth in zip(drawn, truths)])
    surest = errors[np.argsort(spreads)[: len(errors) // 2]]
    rows[name] = spreads.mean(), errors.mean(), spearmanr(spreads, errors).statistic, surest.mean()
    assert name == "untuned" or (rows[name][2] > 0.7 and rows[name][3] < errors.mean() / 2)
pd.DataFrame(rows, ["mean spread", "mean error", "rank correlation", "error, surest half"]).T.round(2)
''', CHECK)

md(r"""
The spread knows. Series by series it goes with the error (the rank correlation is 1 where the order is the same), and whoever
may decline to answer on the half of the series with the widest spread is left with less than half of the mean error.
""")

code(r'''
fig = uncertainty.trust(found)
plots.save_figure(fig, "trust");
''', alt="Left and middle, error of the median against spread, a dot a series on logarithmic axes, for the language model and the log-VAR: in both the dots climb along the diagonal. Right, the mean error of the series that each is surest of against the share kept: both curves rise slowly at first and steeply at the end, near the dashed curves of who would know the errors in advance.")

md(r"""
On the diagonal error and spread are equal. The dots climb along it over three decades, from series at rest to runaways. On
the right the same as a **risk curve**: keep only the series that the forecaster is surest of, and read off their mean
error. Dashed is what could be had if it knew its errors in advance. The two lines lie close together.

## How many samples does the median need?

Even whoever wants a single number gains by asking often: one runaway future does not move the median. But how often? We
have 48 samples, and draw fewer from among them, 20 times for each number.
""")

code(r'''
rng = np.random.default_rng(0)


def error_of_median(drawn, n):
    chosen = [rng.permutation(drawn.shape[1])[:n] for _ in range(20)]
    return np.mean([series_mae(np.median(drawn[:, which], axis=1), truths) for which in chosen])


counts = [n for n in (1, 2, 3, 6, 12, 24, 48) if n <= samples.shape[1]]
table = {who: [error_of_median(found.samples[who], n) for n in counts] for who in found.records}
table = pd.DataFrame(table, counts).T
table["greedy"] = [np.mean(list(found.greedy[who].values())) for who in table.index]
for who in found.records:
    assert table.loc[who, 1] > table.loc[who, counts[-1]]
assert table.loc["final", 1] > table.loc["final", "greedy"] > table.loc["final", counts[-1]]
table.round(1)
''', CHECK)

code(r'''
fig = uncertainty.sample_counts(found)
plots.save_figure(fig, "sample_counts");
''', alt="Mean error of the median of n samples against n on a logarithmic axis, with the error of the greedy forecast as a dashed line: a single sample is worse than greedy, two or three are as good, and beyond that the median is better and levels off.")

md(r"""
One sample alone is worse than the greedy forecast: it takes every doubtful turn by lot. Two or three are as good, and from
there on the median wins, with ever smaller steps: a dozen samples give most of what there is. For a point forecast that is
enough. For the ends of a 95% band it is not, for of 12 samples none is there to say where the last one in forty lies.

## What it costs

The report decided against a probabilistic score because of its price. Here is the price: all samples of the 50 test
series, as recorded, under the three conventions, and the greedy forecasts of the same adapter beside them.
""")

code(r'''
LIMIT = study.budget
rows = {}
for name in ("final", "samples/final/test"):
    record = panels.finished_record(study, name)
    spent = record.flops["forecasts"]
    rows[name] = [f"{spent[kind]:.3g}" for kind in CONVENTIONS] + [f"{spent['coursework'] / LIMIT:.3%}"]
pd.DataFrame(rows, [*CONVENTIONS, "of the budget"]).T
''', CHECK)

code(r'''
cost = found.records["final"]
greedy, sampled = (panels.finished_record(study, name).flops["forecasts"]["coursework"] for name in rows)
print(f"by the rules {sampled / greedy:.1f} times the greedy forecasts, for {samples.shape[1]} times as many")
print(f"{cost.seconds / 60:.0f} minutes ({cost.device}), {cost.seconds / len(cost.series):.0f} s a series")
assert cost.flops["forecasts"]["coursework"] < 0.02 * LIMIT
''', CHECK)

md(r"""
All samples of all 50 series stay far below 2% of the budget by the rules, and cost only about ten times as much as
one greedy forecast each, not 48 times: the prefill, which reads the whole prompt, is shared. Only the report's own accountant
(`published`), which charges every new token almost a pass over the whole context, makes them look dear.

And on the report's own model? A prompt of 512 tokens, forecasts of 220:
""")

code(r'''
qwen = Shape.of(backbone_config("qwen2.5-0.5b"))
one = total(forecast_flops(qwen, 512, 220, rank=2, convention="published"))
by_rules = {n: total(forecast_flops(qwen, 512, 220, rank=2, samples=n)) for n in (1, 48)}
print(f"one greedy forecast, as the report charged it  {one:.2e}")
print(f"the same by the rules                          {by_rules[1]:.2e}")
print(f"48 samples of one series by the rules          {by_rules[48]:.2e}, {by_rules[48] / by_rules[1]:.0f} times that")
all_50 = 50 * by_rules[48]
print(f"48 samples of 50 series by the rules           {all_50:.2e}, {all_50 / LIMIT:.2%} of the budget")
print(f"series of 48 samples for one charged forecast  {one / by_rules[48]:.0f}")
assert 50 * by_rules[48] < 0.02 * LIMIT
''', CHECK)

md(r"""
What the report charged for a *single* greedy forecast pays, by the rules, for 48 samples of eight series. The score that it
set aside as too dear would have taken less than a hundredth of its budget.
""")

md(r"""
## Mending the bands

A band that holds too little, or too much, can be mended without touching the model. On the *validation* series ask of each
true value how far the 80% band would have to be stretched around the median to just hold it. Four values in five need no
more than some factor; stretch by that factor, and four in five are held. Of *new* series too, if they are drawn like the
old ones: that is **conformal prediction**. (For the promise to hold exactly one takes a place a little further up: of $n$ numbers
the $\lceil 0.8\,(n + 1) \rceil$-th.)
""")

code(r'''
from m2lib.series import conformal, stretch_needed, stretched

validation = panels.sampled(study, "validation")


def needed(drawn, truth):
    """The factor by which the 80% band must be stretched to hold each true value."""
    (low, high), middle = band(drawn, 0.8), np.median(drawn, axis=0)
    reach = np.where(truth < middle, middle - low, high - middle)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(truth == middle, 0, np.abs(truth - middle) / reach)  # a band without width: infinity


pairs = list(zip(validation.samples["final"], validation.truths))
scores = np.sort(np.concatenate([needed(*pair).ravel() for pair in pairs]))
factor = scores[int(np.ceil(0.8 * (len(scores) + 1))) - 1]
assert np.array_equal(scores, np.sort(np.concatenate([stretch_needed(*pair, 0.8).ravel() for pair in pairs])))
assert factor == conformal(scores, 0.8)
print(f"of {len(scores):,} true values, 80% need at most {factor:.2f} times the width")
''', CHECK)

code(r'''
from m2lib.paper.uncertainty import factor_for

rows = {}
for name in found.samples:
    by = factor_for(validation, name)
    before, after = held(found, name), held(found, name, factor=by)
    crps = [np.mean([crps_fair(stretched(d, f), t) for d, t in zip(found.samples[name], truths)]) for f in (1, by)]
    rows[name] = [f"{by:.2f}", *(f"{before[t]:.0%} → {after[t]:.0%}" for t in before), "{:.1f} → {:.1f}".format(*crps)]
    assert 0.72 < after[0.8] < 0.88
pd.DataFrame(rows, ["factor", *(f"{t:.0%} band on test" for t in before), "CRPS"]).T
''', CHECK)

md(r"""
With the factor that validation gave, every forecaster's 80% band holds between 72% and 88% of the *test* values, which the cell
asserts: 50 series are enough to learn one number. The other two bands are stretched by the same factor, and whether that
suits them too is a matter of the distribution's shape. A factor near 1 says that the samples were right as they were; and since it
is one factor for all series, it cannot help where the spread itself is in the wrong place. The CRPS hardly moves.

A caution: conformal bands hold what they promise *on average over series like those of validation*. On a series unlike them,
in a world that has changed, there is no promise (notebook 12).
""")

md(r"""
## In short

Draw tokens instead of taking the likeliest, and a language model gives futures that part where it is in doubt. The CRPS
scores them as a distribution: an area between distribution functions, or distances between samples, fair where pairs of a
sample with itself are left out. The temperature is a setting like any other, chosen on validation. On the test series the
samples' CRPS is far below the greedy forecast's error and below that of a log-VAR with its residuals bootstrapped, whose bands are
honest, too, and cost nothing. The spread knows about the error, well enough to say which forecasts to distrust. Where bands hold
too little, one factor from the validation series mends them. And 48 samples of every test series cost less than 2% of the
budget.

## Exercises
""")

md(r"""
### Exercise 1

Even samples that are exactly right have bands that are too narrow, because the 10th percentile of a few samples lies further in
than that of the distribution. How much does the 80% band of $m$ right samples hold on average? Simulate it for 12 and for
48 samples, and compare with $0.8\,(m - 1)/(m + 1)$.
""")

code(r'''
rng = np.random.default_rng(0)
for m in (12, 48):
    drawn, truth = rng.normal(size=(m, 20_000, 2)), rng.normal(size=(20_000, 2))
    holds = coverage(drawn, truth, 0.8)
    print(f"{m} samples: {holds:.3f}, formula {0.8 * (m - 1) / (m + 1):.3f}")
    assert np.isclose(holds, 0.8 * (m - 1) / (m + 1), atol=0.01)
''', SOLUTION, CHECK)

md(r"""
### Exercise 2

The mean quantile loss over all levels, doubled, is the CRPS (the plain one). Show it for the value above: take 9, 99 and 999
evenly spaced levels, and let the quantile of level $t$ be the smallest sample with at least that share at or below
(`method="inverted_cdf"`).
""")

code(r'''
for count in (9, 99, 999):
    levels = (np.arange(count) + 0.5) / count
    below = y - np.quantile(x, levels, method="inverted_cdf")
    doubled = 2 * np.maximum(levels * below, (levels - 1) * below).mean()
    print(f"{count:3d} levels: {doubled:.2f}, CRPS {integral:.2f}")
assert np.isclose(doubled, integral, rtol=0.005)
''', SOLUTION, CHECK)

md(r"""
### Exercise 3

What is the spread worth? Make bands that know nothing of it: around the median of the samples, at each step as wide as the
errors on the *validation* series say (`conformal` of the absolute errors, series by series, gives a half-width for each
step and variable). They hold about 80% of the test values. How much wider are they than the bands of the samples?
""")

code(r'''
medians = {part: np.median(part_of.samples["final"], axis=1) for part, part_of in (("old", validation), ("new", found))}
half = conformal(np.abs(validation.truths - medians["old"]), 0.8)
holds = (np.abs(truths - medians["new"]) <= half).mean()
width, of_samples = 2 * half.mean(), np.mean([sharpness(one, 0.8) for one in samples])
print(f"the same band for every series: holds {holds:.0%}, {width:.0f} wide; the samples' bands {of_samples:.0f}")
assert holds > 0.7
assert width > of_samples  # what is as wide for all series is too wide for most
''', SOLUTION, CHECK)

md(r"""
### Exercise 4

Two forecasters that err differently may be put together: take half of the samples from the final adapter and half from the
log-VAR's bootstrap. Is the mixture better than either, by CRPS, and on how many series?
""")

code(r'''
half = samples.shape[1] // 2
mixed = [np.concatenate([ours[:half], theirs[:half]]) for ours, theirs in zip(samples, found.samples[LOG_VAR])]
scores = {"mixture": {i: crps_fair(one, truth) for i, one, truth in zip(found.ids, mixed, truths)}}
scores |= {name: found.by_series(crps_fair, name) for name in ("final", LOG_VAR)}
for name, of in scores.items():
    print(f"{name:22s}{np.mean(list(of.values())):.1f}, median {np.median(list(of.values())):.1f}")
assert np.mean(list(scores["mixture"].values())) < np.mean(list(scores[LOG_VAR].values()))
''', SOLUTION, CHECK)

md(r"""
## Further reading

- Gneiting and Raftery, [Strictly proper scoring rules, prediction, and
  estimation](https://doi.org/10.1198/016214506000001437), 2007: CRPS and quantile loss, and why neither can be cheated.
- Ferro, [Fair scores for ensemble forecasts](https://doi.org/10.1002/qj.2270), 2014: the CRPS of a few samples.
- Hamill, [Interpretation of rank histograms for verifying ensemble
  forecasts](https://doi.org/10.1175/1520-0493(2001)129%3C0550:IORHFV%3E2.0.CO;2), 2001: what the shapes tell.
- Romano, Patterson and Candès, [Conformalized quantile regression](https://arxiv.org/abs/1905.03222), 2019: bands that
  are mended on data of their own.
- Hyndman and Athanasopoulos, [Forecasting: principles and practice](https://otexts.com/fpp3/prediction-intervals.html),
  2021, section 5.5: the bootstrap of residuals.
- Gruver et al., [Large language models are zero-shot time series forecasters](https://arxiv.org/abs/2310.07820), 2023: samples
  of a language model as a forecast.

[Previous: 10 · What the budget bought](10_flop_review.ipynb) · [Next: 12 · Yardsticks](12_yardsticks.ipynb)
""")
