"""What a reader sees: the paper's figures and numbers, its PDF, and drawings for lectures."""

from .errors import finished_record, finished_records, shown_profile
from .pdf import draw, make_pdf, show
from .samples import sampled
