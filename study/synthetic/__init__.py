"""Synthetic series without end: what the adapter for any table learned from."""

from .families import FAMILIES as FAMILIES
from .families import draw_series as draw_series
from .windows import synthetic_windows as synthetic_windows
