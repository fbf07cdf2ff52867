"""What a pass costs in FLOPs, by three conventions: the coursework's rules, the report's own, the hardware's."""

from .flops import CONVENTIONS, cached_step_flops, forecast_flops, forward_flops, train_step_flops
from .published import DEPARTURES, departure_costs
from .shape import COMPONENTS, PROJECTIONS, TARGETS, Breakdown, Shape, added, times, total
