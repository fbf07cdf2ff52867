__version__: str

from .accounting.flops import forecast_flops as forecast_flops
from .accounting.flops import forward_flops as forward_flops
from .accounting.flops import train_step_flops as train_step_flops
from .accounting.shape import Shape as Shape
from .accounting.shape import total as total
from .forecasting.forecasts import forecast as forecast
from .forecasting.protocol import DecodeConfig as DecodeConfig
from .model.adapter_files import load_adapter as load_adapter
from .model.adapter_files import save_adapter as save_adapter
from .model.backbones import load_backbone as load_backbone
from .model.lora import inject_lora as inject_lora
from .model.lora import merge_lora as merge_lora
from .model.vocabulary import ids_to_text as ids_to_text
from .model.vocabulary import text_to_ids as text_to_ids
from .series.codec import decode as decode
from .series.codec import encode as encode
from .series.codec import scale_of as scale_of
from .series.data import split_ids as split_ids
from .series.metrics import series_mae as series_mae
from .series.metrics import summarise as summarise
from .series.recipe import generate_series as generate_series
from .series.series_files import load_series as load_series
from .study.runs import run as run
from .training.config import TrainConfig as TrainConfig
from .training.loop import train as train
from .training.windows import make_windows as make_windows
