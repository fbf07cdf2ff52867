"""What a reader sees: the figures and numbers of the paper, its PDF, and the plots that notebooks
share."""

from .errors import finished_record, finished_records, shown_profile
from .pdf import draw, make_pdf, show
from .samples import sampled
