# %% [markdown]
# 12 · Yardsticks

*Beyond the report.*

An error of 25 says little until one knows what others come to on the same series. The report compares its model with
itself, before and after training. A sceptic asks for more: what does a copy of the past do, a regression out of a
textbook, a library of statistical models, and somebody who knows the equations? This notebook writes these forecasts
plainly, puts them on the 50 test series beside the language model, says what each costs, and then changes the world under
all of them.

**You will see**

- forecasts that need no language model, each written in a few lines and equal to the library's;
- the equations behind the series, fitted to 80 steps by least squares here and now;
- all forecasters on the test series, with intervals, pair by pair, and against what they cost;
- ten worlds that nobody was trained on, and who survives there.

**You need** scaled units, of notebook 3, and intervals and the final adapter, of notebook 9; half a minute on one core. No
language model is loaded: what it wrote is read from records.
# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.integrate import odeint
from scipy.optimize import least_squares

from m2lib.paper import panels, plots, yardstick_panels
from m2lib.series import (
    WORLDS,
    bootstrap_interval,
    context_mean,
    draw_systems,
    last_value,
    load_series,
    log_var,
    nearest_analogue,
    paired_gain,
    physics_forecast,
    seasonal_naive,
    series_mae,
    split_ids,
    summarise,
    to_integers,
    unscale,
)
from m2lib.series.data import RECIPE, predator_prey, solve_system
from m2lib.series.physics import simulate
# %%
from m2lib.study import STATISTICAL, published_maes, recorded_rows, setting

plots.use_style()
pd.set_option("display.width", 150, "display.max_colwidth", None, "display.max_columns", 20)
study = panels.shown_profile()
print(setting(study))
series = load_series()
test = list(split_ids(len(series)).test)
integers = to_integers(series.trajectories[test], series.scales[test])
contexts, truths = integers[:, :80], integers[:, 80:]
# %% [markdown]
A series is 100 steps of prey and predators. The first 80, its context, are seen, and the last 20 are to be forecast. In
scaled units 1000 is the 90th percentile of the context. An error is a mean over the 20 steps and both variables, and what
is to be beaten, or not, is this:
# %% [nbval-check-output]
final = panels.finished_record(study, "final").maes()
print(f"the final adapter on the test series: {summarise(final.values())}")
# %% [markdown]
## Nothing to compute

Who knows nothing says that things stay as they are. Who knows a little more says that they are as they are on average.
# %%
def last_step(context, horizon=20):
    return [context[-1]] * horizon


def mean_step(context, horizon=20):
    return [[sum(values) / len(values) for values in context.T]] * horizon
# %% [nbval-check-output]
errors = {}


def judged(name, ahead):
    errors[name] = dict(zip(test, series_mae(ahead, truths).tolist(), strict=True))
    print(f"{name:35s} {summarise(errors[name].values())}")


judged("last value, repeated", [last_step(context) for context in contexts])
judged("mean of the context, repeated", [mean_step(context) for context in contexts])
# %%
assert np.array_equal([last_step(context) for context in contexts], last_value(contexts))
assert np.allclose([mean_step(context) for context in contexts], context_mean(contexts), rtol=1e-12)
# %% [markdown]
The mean is a floor to stand on: a forecast that is worse has understood nothing of the series. By that measure the last
value is worse than nothing, for a cycle does not stay where it is.

## The past once more

Most of these series go round. A **seasonal naive** forecast repeats the last period. But how long is a period? The
**autocorrelation** at a lag of $k$ steps is the correlation of a series with itself $k$ steps later. It is 1 at lag 0, falls
below zero where crests meet troughs, and comes back where they meet crests again: there is the period. (We take it of
$\ln(1+x)$, in which a cycle of sharp peaks is rounder.)
# %%
def autocorrelation(values):
    """At lags from 0 to half the steps, as a share of lag 0."""
    logs = np.log1p(values)
    about = logs - logs.mean()
    products = [(about[lag:] * about[: len(about) - lag]).sum() for lag in range(len(about) // 2 + 1)]
    return np.array(products) / products[0]


def period(values):
    """The lag of the largest autocorrelation after its first fall below zero; none where that is below 0.1."""
    lags = autocorrelation(values)
    below = [lag for lag in range(len(lags)) if lags[lag] < 0]
    best = max(range(below[0], len(lags)), key=lambda lag: lags[lag]) if below else 0
    return best if best and lags[best] >= 0.1 else None
# %%
def last_period(context, horizon=20):
    columns = []
    for values in context.T:
        again = values[-(period(values) or 1) :]  # no period: the last value
        columns.append([again[step % len(again)] for step in range(horizon)])
    return np.transpose(columns)
# %% [hide-input] Two panels for one test series. Left: the autocorrelation of its prey falls from 1 at lag 0 below zero, and rises again to a peak, which is marked as the period. Right: prey and predators in scaled units with the last period repeated as a dotted forecast, close to the true course.
shown = 10
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3), width_ratios=(1, 1.6))
lags, found = autocorrelation(contexts[shown, :, 0]), period(contexts[shown, :, 0])
left.plot(lags, color=plots.COLOURS["prey"])
left.axhline(0, color="0.6", lw=1)
left.plot(found, lags[found], "o", color=plots.COLOURS["error"])
left.annotate(f"period: {found} steps", (found, lags[found]), xytext=(-60, 8), textcoords="offset points")
left.set(xlabel="lag (steps)", title="autocorrelation of the prey's logarithm", ylim=(-1, 1.1))
ahead = last_period(contexts[shown])
plots.plot_forecast(right, series.time, integers[shown], ahead, f"series {test[shown]}, the last period again")
right.set(xlabel=plots.MODEL_TIME, ylabel="scaled units")
plots.forecast_legend(fig)
# %% [markdown]
A period is rarely a whole number of steps, and not all cycles are alike. The **nearest analogue** is more careful: it looks
for the stretch of the past that is most like the last six steps, and copies what came after it.
# %%
def what_followed(context, recent=6, horizon=20):
    first, least = None, np.inf
    for start in range(len(context) - recent - horizon + 1):
        distance = np.abs(context[start : start + recent] - context[-recent:]).sum()
        if distance < least:  # and not <=: of equals the earliest stays
            first, least = start + recent, distance
    return context[first : first + horizon]
# %% [nbval-check-output]
judged("the last period, repeated", [last_period(context) for context in contexts])
judged("nearest analogue in the context", [what_followed(context) for context in contexts])
assert np.array_equal([last_period(context) for context in contexts], seasonal_naive(contexts))
assert np.array_equal([what_followed(context) for context in contexts], nearest_analogue(contexts))
# %% [markdown]
The library's versions do the same with fewer loops: `np.correlate` has all lags at once, and all 55 stretches of all
series are compared in one array. To copy the past is four times better than to repeat its mean.

## A regression on the last three steps

The simplest model that learns anything is linear. With $\ell_t = (\ln(1 + \text{prey}_t), \ln(1 + \text{predators}_t))$ it
says

$$\ell_t = c + A_1 \ell_{t-1} + A_2 \ell_{t-2} + A_3 \ell_{t-3},$$

a **vector autoregression** of order 3. The 14 numbers in $c$ and the $A$ are fitted to the context by least squares, one
row for each step that has three before it. Then the model is run on from its own forecasts.
# %%
def lagged(logs, t, order):
    """1, then the steps before step t, newest first."""
    return np.concatenate([[1.0], *(logs[t - lag] for lag in range(1, order + 1))])


def autoregression(context, horizon=20, order=3):
    logs = np.log1p(context)
    rows = [lagged(logs, t, order) for t in range(order, len(logs))]
    weights = np.linalg.lstsq(rows, logs[order:], rcond=None)[0]
    highest = np.log1p(10 * context.max())  # an unstable fit grows without end
    for _ in range(horizon):
        ahead = lagged(logs, len(logs), order) @ weights
        logs = np.vstack([logs, np.clip(ahead, 0, highest)])
    return np.expm1(logs[-horizon:])
# %% [nbval-check-output]
judged("log-VAR(3), fitted to the context", [autoregression(context) for context in contexts])
assert np.allclose([autoregression(context) for context in contexts], log_var(contexts), rtol=1e-6)
# %% [markdown]
Half of the series it forecasts to within 11 units, and on the rest it is far off: what is not linear in logarithms, it
cannot know. Keep its median in mind.

## A library of statistical models

Should one not leave this to professionals? `statsforecast` chooses and fits classical models by itself: AutoARIMA,
AutoETS (exponential smoothing) and AutoTheta, each for one variable at a time. `pip install 'm2lib[yardsticks]'` brings it,
`m2 yardsticks` runs it, and the record is enough here:
# %% [nbval-check-output]
rows = recorded_rows("test")
for name in STATISTICAL:
    print(f"{name:10s} {summarise(rows[name]['maes'].values())}, {rows[name]['seconds']:.1g} s a series")
# %% [markdown]
Better than the mean or not at all. They are made for sales and power grids, where seasons come from a calendar and are
whole numbers of steps. Here a season is a cycle of the system itself, and what drives it is the other variable, which these
models do not see.

## Whoever knows the equations

The series were simulated, from the equations of Rosenzweig and MacArthur (notebook 1):

$$\dot x = r x \left(1 - \frac{x}{K}\right) - \frac{a x y}{1 + h x}, \qquad
\dot y = e\,\frac{a x y}{1 + h x} - m y.$$

Who knows them needs only eight numbers for each series: six parameters and two starting values. The recipe says from which
ranges they were drawn:
# %% [nbval-check-output]
pd.DataFrame(RECIPE, ["lowest", "highest"]).T
# %% [markdown]
The plan is short. Guess the eight numbers; integrate; compare with the 80 steps that are seen; let least squares improve the
guess. We fit logarithms, because all eight are positive, and stay inside the ranges.
# %%
def rates(state, _time, r, a, m, h, e, K):
    x, y = state
    eaten = a * x * y / (1 + h * x)
    return r * x * (1 - x / K) - eaten, e * eaten - m * y


def course(system, time):
    return odeint(rates, system[6:], time, args=tuple(system[:6]), rtol=1e-8, atol=1e-8)
# %%
i = 207
context, scale = contexts[test.index(i)], series.scales[i]
low, high = np.log(np.array(list(RECIPE.values())).T)
seen = unscale(context, scale)  # integers, as every forecaster has them, back in physical units


def residuals(logs):
    return (course(np.exp(logs), series.time[:80]) - seen).ravel()
# %%
drawn, fits = np.random.default_rng(0), []
for _ in range(5):
    start = drawn.uniform(low, high)
    bounds = low - 1e-3, high + 1e-3
    fits.append(least_squares(residuals, start, bounds=bounds, x_scale="jac", max_nfev=60))


def ahead_of(logs):
    return to_integers(course(np.exp(logs), series.time)[80:], scale)
# %%
table = {
    start: {
        "off in the context": 1000 / scale * np.abs(fit.fun).mean(),
        "off in the forecast": series_mae(ahead_of(fit.x), truths[test.index(i)]),
    }
    for start, fit in enumerate(fits, 1)
}
pd.DataFrame(table).T.rename_axis("start").round(1)
# %% [markdown]
Some starts end in a valley that is not the right one: cycles of another period that fit here and miss there. The first column
tells which to trust, and it needs no truth. The best of the starts, beside the system that the series was made of:
# %% [nbval-check-output]
best = min(fits, key=lambda fit: fit.cost)
found, true = np.exp(best.x), draw_systems(1000, 0)[i]
pd.DataFrame({"fitted": found, "drawn": true}, RECIPE).round(2).T
# %% [markdown]
Eight numbers out of 160, each to two digits or nearly so. The library's fit is quicker to the valley: its first start comes
from the slopes of a spline through the context, it fits the first half of the context before all of it, and it draws other
starts only where the fit is not good. It ends in the same place:
# %%
library = physics_forecast(context[None], series.scales[[i]], series.time, "the system, fitted")[0]
assert np.abs(library - ahead_of(best.x)).max() <= 1
# %% [markdown]
What keeps even this forecast from being exact? Two things: the context is rounded to whole units, and the file itself is not
quite a solution of the equations. It was made by an integrator (LSODA) at its default tolerances, with errors of its own:
# %% [nbval-check-output]
as_filed, exact = (to_integers(run(true, series.time)[80:], scale) for run in (solve_system, simulate))
for what, ahead in {"the file's integrator": as_filed, "tight tolerances": exact}.items():
    print(f"the true system, {what}: MAE {series_mae(ahead, truths[test.index(i)]):.2f}")
# %% [markdown]
With the true eight numbers and tight tolerances one is off by more than with the file's own integrator, which makes the file
to the last digit. So the library has a second fit, which integrates as the file did, errors included. All 50 series were
forecast in both ways for the record:
# %% [nbval-check-output]
for name in ("the system, fitted", "the system, fitted with the file's integrator"):
    print(f"{name:46s} {summarise(rows[name]['maes'].values())}, {rows[name]['seconds']:.1f} s a series")
# %%
few = [0, 10, 20]
live = physics_forecast(contexts[few], series.scales[test][few], series.time, "the system, fitted")
for k, mae in zip(few, series_mae(live, truths[few]), strict=True):
    print(f"series {test[k]}, live: MAE {mae:.1f}, recorded {rows['the system, fitted']['maes'][test[k]]:.1f}")
    assert mae < rows["the system, fitted"]["maes"][test[k]] + 1
# %% [markdown]
## All of them on the test series

What was computed above is what is recorded, and beside it stand the language model and the published errors:
# %%
for name, maes in errors.items():
    assert np.allclose(list(maes.values()), list(rows[name]["maes"].values()), rtol=1e-6), name
everyone = {name: row["maes"] for name, row in rows.items()}
everyone |= {f"published, {which}": published_maes(which) for which in ("untuned", "final")}
assert everyone["the language model, final adapter"] == final
# %% [nbval-check-output]
def with_interval(statistic, maes):
    values = list(maes.values())
    return "{:.1f} ({:.1f} to {:.1f})".format(statistic(values), *bootstrap_interval(values, statistic))


columns = {"mean (95% interval)": np.mean, "median (95% interval)": np.median}
pd.DataFrame(
    {title: {name: with_interval(of, maes) for name, maes in everyone.items()} for title, of in columns.items()}
)
# %% [markdown]
These intervals overlap, but the series are the same, so they can be compared pair by pair (notebook 9). By how much, and how
often, is the final adapter better than each?
# %% [nbval-check-output]
gains = {name: paired_gain(final, maes) for name, maes in everyone.items() if maes != final}
table = {
    name: {
        "better by": f"{gain['mean']:.1f}",
        "95% interval": "{:.1f} to {:.1f}".format(*gain["mean interval"]),
        "on so many of 50": gain["better"],
    }
    for name, gain in gains.items()
}
pd.DataFrame(table).T
# %% [markdown]
PROSE

## What each of them costs

Seconds are those of one core. FLOPs are counted, not timed. Last value: nothing is computed. Mean, analogue and period: every
sum and product. The autoregression: least squares of $m$ rows and $n$ columns takes $2mn^2 + 11n^3$ operations. The fits: each
call of the right-hand side is counted, at 13 operations; the integrator's own are not, so this is a lower bound. The
statistical models: nobody can look inside, so they are charged what a core could compute at most in their seconds. The
language model: products, as notebook 5 counts them. And the published model, whose seconds nobody has said, at its 512 tokens
of prompt and 220 new ones:
# %% [nbval-check-output]
costs = yardstick_panels.costs()
signs = {None: "", "at least": "≥ ", "at most": "≤ "}
table = {name: {"FLOPs a series": f"{signs[row['bound']]}{row['flops']:.1e}"} for name, row in costs.items()}
for name, row in costs.items():
    table[name]["seconds a series"] = "unknown" if row["seconds"] is None else f"{row['seconds']:.0e}"
pd.DataFrame(table).T
# %% Two panels with the mean error of each forecaster on the test series on a logarithmic axis. Left against seconds of one core, right against executed FLOPs a series. Copies of the past and the autoregression stand at a microsecond to a millisecond with errors of about 40, the language model's final adapter at two seconds and 2e11 FLOPs with 25, and the fitted system below all others, at a tenth of a second and an error near 1.
panels.show("yardstick_costs");
# %% [nbval-check-output]
record = panels.finished_record(study, "final")
training, a_forecast = record.flops["training"]["executed"], record.flops["forecasts"]["executed"] / 50
print(f"training, once: {training:.1e} FLOPs, as many as {training / a_forecast:,.0f} forecasts")
for name in ("log-VAR(3), fitted to the context", "the system, fitted"):
    print(f"a forecast costs {a_forecast / costs[name]['flops']:.0e} times as many FLOPs as one by {name}")
# %% [markdown]
PROSE

## When the world changes

So far everybody was at home: the language model was trained on 900 series of the same recipe, and the fit knows that recipe.
What if the next series comes from elsewhere? Nine worlds change one thing each, and one changes nothing:

- **noise** of 1, 5 and 20% on each value that is seen; what is scored is still the true course;
- **Holling type III**: predators that hardly hunt what is rare; **Lotka-Volterra**: prey without a limit, predators that never
  have enough; **a rate that drifts**: predators die ever faster;
- **half the sampling rate**: every cycle has half as many steps;
- **a tenth of the size**, and **ten times**: the same series in other units.

The systems are new ones, the same in all worlds. The first of them:
# %% [hide-input] ALT
fig, axes = plt.subplots(2, 5, figsize=(12, 4), sharex=True)
for ax, (name, make) in zip(axes.flat, WORLDS.items(), strict=True):
    world = make(1)
    plots.plot_series(ax, np.arange(100), world.trajectories[0], lw=1)
    ax.axvspan(80, 99, color="0.93", lw=0, zorder=0)
    ax.set(title=name, ylim=(0, None))
for ax in axes[1]:
    ax.set_xlabel("step")
for ax in axes[:, 0]:
    ax.set_ylabel("physical units")
# %% [markdown]
All forecasters were recorded on 30 series of each world, by one command, `m2 yardsticks`. The quick ones are done again here:
# %%
quick = {"last value, repeated": last_value, "mean of the context, repeated": context_mean}
quick |= {"nearest analogue in the context": nearest_analogue, "the last period, repeated": seasonal_naive}
quick |= {"log-VAR(3), fitted to the context": log_var}
for world, make in WORLDS.items():
    there = make(30)
    scaled, recorded = to_integers(there.trajectories, there.scales), recorded_rows(world)
    for name, forecast in quick.items():
        maes = series_mae(forecast(scaled[:, :80]), scaled[:, 80:])
        assert np.allclose(maes, list(recorded[name]["maes"].values()), rtol=1e-6), (world, name)
# %% ALT2
panels.show("changed_worlds");
# %% [nbval-check-output]
means = pd.DataFrame({w: {n: e["mean"] for n, e in found.items()} for w, found in yardstick_panels.worlds().items()}).T
means.columns = [yardstick_panels.short(name) for name in means]
table = (means / means.loc["as trained"]).drop("as trained")
table.map("{:.2g}".format)
# %% [nbval-check-output]
best = means.idxmin(axis=1)
table = {
    world: {"best": best[world], "its MAE": errors.min().round(1), "place of the fit": int(errors.rank()["system fitted"])}
    for world, errors in means.iterrows()
}
pd.DataFrame(table).T
# %% [nbval-check-output]
floor = means.pop("mean")
table = {
    "worlds in which it is better than the mean": means.lt(floor, axis=0).sum(),
    "worst MAE": means.max().round(0).astype(int),
    "in": means.idxmax(),
}
pd.DataFrame(table)
# %% [markdown]
PROSE

## In short

PROSE

## Exercises
# %% [markdown]
### Exercise 1

Nobody has tuned the yardsticks. Choose the order of the autoregression, from 1 to 10, by its mean error on the *validation*
series, and take its mean with the nearest analogue. How good is that on test?
# %% [hide-cell nbval-check-output]
validation = list(split_ids(len(series)).validation)
known = to_integers(series.trajectories[validation], series.scales[validation])
orders = {k: series_mae(log_var(known[:, :80], order=k), known[:, 80:]).mean() for k in range(1, 11)}
order = min(orders, key=orders.get)
both = (log_var(contexts, order=order) + nearest_analogue(contexts)) / 2
tuned, half = (series_mae(ahead, truths) for ahead in (log_var(contexts, order=order), both))
print(f"order {order}: {summarise(tuned)}; its mean with the analogue: {summarise(half)}")
assert half.mean() < np.mean(list(errors["nearest analogue in the context"].values()))
# %% [markdown]
### Exercise 2

The fit fails on series a tenth of the size because its ranges are in the recipe's units. But every series of the recipe begins
near 1. Find the power of ten by which a series was scaled from its first step, and let the fit see it in the recipe's units.
(`physics_forecast` takes integers and their scale, so that it is enough to change the scale.)
# %% [hide-cell nbval-check-output]
small, few = WORLDS["a tenth of the size"](30), [0, 1, 2]
scaled = to_integers(small.trajectories[few], small.scales[few])
size = 10 ** np.rint(np.log10(small.trajectories[few, 0].mean(axis=1)))
ahead = physics_forecast(scaled[:, :80], small.scales[few] / size, small.time, "the system, fitted")
mended = series_mae(ahead, scaled[:, 80:])
assert mended.mean() < 2
print(f"power of ten {size}, MAE {mended.mean():.0f}")
# %% [markdown]
### Exercise 3

In the drifting world the equations are wrong. Give the fit the right ones: `m2lib.series.worlds.drifting`, by the argument
`rates` of `physics_forecast`. What is left of the error on the first three series?
# %% [hide-cell]
from m2lib.series.worlds import drifting

drift = WORLDS["a rate that drifts"](30)
scaled = to_integers(drift.trajectories[few], drift.scales[few])
ahead = physics_forecast(scaled[:, :80], drift.scales[few], drift.time, "the system, fitted", rates=drifting)
right, wrong = series_mae(ahead, scaled[:, 80:]), recorded_rows("a rate that drifts")["the system, fitted"]["maes"]
assert right.max() < 2 < 20 < min(wrong[i] for i in few)
print(f"with the right equations {right.mean():.1f}, with the wrong ones {np.mean([wrong[i] for i in few]):.0f}")
# %% [markdown]
### Exercise 4

Can one tell, before the truth is known, that the equations are wrong? Take the first series of the drifting world and of that
with noise of 20%, fit each with `fit_system`, and look at what the fit leaves over in the context. How large is it? And how
much does one step's residual resemble the next one's (their autocorrelation at lag 1)?
# %% [hide-cell nbval-check-output]
from m2lib.series import fit_system

left = {}
for name in ("noise of 20%", "a rate that drifts"):
    there = WORLDS[name](30)
    seen = unscale(to_integers(there.contexts[0], there.scales[0]), there.scales[0])
    over = seen - simulate(fit_system(seen, there.time), there.time)[:80]
    over -= over.mean(axis=0)
    left[name] = np.abs(over).mean() * 1000 / there.scales[0], (over[1:] * over[:-1]).sum() / (over**2).sum()
# Noise leaves more, but without a pattern; wrong equations leave a pattern, and that is what foretells the error.
(size, noise), (small, pattern) = left.values()
assert size > small and abs(noise) < 0.4 < 0.7 < pattern
pd.DataFrame(left, ["mean residual", "autocorrelation"]).round(1).T
# %% [markdown]
## Further reading

- Rosenzweig and MacArthur, [Graphical representation and stability conditions of predator-prey
  interactions](https://doi.org/10.1086/282272), 1963: the equations.
- Varah, [A spline least squares method for numerical parameter estimation in differential
  equations](https://doi.org/10.1137/0903003), 1982: where the library's fit starts.
- Lorenz, [Atmospheric predictability as revealed by naturally occurring
  analogues](https://doi.org/10.1175/1520-0469%281969%2926%3C636:APARBN%3E2.0.CO;2), 1969: the nearest analogue, in the weather.
- Sims, [Macroeconomics and reality](https://doi.org/10.2307/1912017), 1980: vector autoregressions.
- Hyndman and Athanasopoulos, [Forecasting: principles and practice](https://otexts.com/fpp3/simple-methods.html), 2021: simple
  methods as benchmarks, and what exponential smoothing and ARIMA are.
- Tan et al., [Are language models actually useful for time series forecasting?](https://arxiv.org/abs/2406.16964), 2024: a
  sceptic's answer on other data.

[Previous: 11 · How sure is the forecast?](11_uncertainty.ipynb)
