"""The report's experiments: declared as data, run, recorded, and counted against the budget."""

from .costs import all_records, budget_of, removed, table_3, workload
from .experiments import (
    ARMS,
    CONTEXTS,
    EXPERIMENTS,
    FINAL_TRIALS,
    LENGTHS,
    SAMPLED_AT,
    SEARCH,
    SECOND,
    START,
    TEMPERATURES,
    experiment_named,
)
from .plans import plan_run, protocol_at, trained_with, training_at
from .profiles import PROFILES, REPLICATION, Profile, active_profile, setting
from .published import (
    published_deciding_maes,
    published_maes,
    published_statements,
    published_table_3,
)
from .records import (
    Plan,
    Record,
    adapter_path,
    in_progress,
    load_record,
    record_path,
    recorded_forecast,
    recorded_samples,
)
from .runs import run
from .yardsticks import ORDER, STATISTICAL, TUNED, recorded_rows, recorded_yardsticks
