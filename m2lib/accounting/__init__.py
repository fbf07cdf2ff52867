"""What a pass costs in FLOPs, by three conventions: the coursework's rules, the report's own, the
hardware's."""

from .flops import (
    CONVENTIONS, Costs, cached_step_flops, costs_of, forecast_flops, forward_flops, sum_costs, train_step_flops,
)  # fmt: skip
from .published import DEPARTURES, departure_costs
from .shape import COMPONENTS, PROJECTIONS, TARGETS, Breakdown, Shape, added, times, total
