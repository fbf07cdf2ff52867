"""What is measured beside the study's runs: speed, and forecasters on other worlds and real tables.

Most modules are commands: `python -m benchmarks.NAME`.
"""

import m2lib  # noqa: F401  (before a benchmark loads torch: see m2lib/threads.py)
