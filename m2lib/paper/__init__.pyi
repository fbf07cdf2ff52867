from .panels import draw as draw
from .panels import show as show
from .pdf import compile_pdf as compile_pdf
from .pdf import make_pdf as make_pdf
from .plots import plot_forecast as plot_forecast
from .plots import plot_series as plot_series
from .plots import save_figure as save_figure
from .plots import use_style as use_style
