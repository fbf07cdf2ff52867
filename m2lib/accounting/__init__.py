"""What a pass costs in FLOPs, counted in three ways: by the rules, as published, as executed."""

from .flops import (
    CONVENTIONS, Costs, cached_step_flops, costs_of, forecast_flops, forward_flops, sum_costs,
    train_step_flops,
)  # fmt: skip
from .published import DEPARTURES, departure_costs
from .shape import COMPONENTS, PROJECTIONS, TARGETS, Breakdown, Shape, added, times, total

__all__ = [
    "COMPONENTS",
    "CONVENTIONS",
    "DEPARTURES",
    "PROJECTIONS",
    "TARGETS",
    "Breakdown",
    "Costs",
    "Shape",
    "added",
    "cached_step_flops",
    "costs_of",
    "departure_costs",
    "forecast_flops",
    "forward_flops",
    "sum_costs",
    "times",
    "total",
    "train_step_flops",
]
