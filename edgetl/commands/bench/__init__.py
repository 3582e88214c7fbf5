"""Latency told honestly (`edgetl bench`): a child process a row, rows in turns, intervals, and what disturbed them.

`models` says what to run, `rows` what a row is, `worker` runs in the child and `child` talks to it, `schedule` takes the
rows in turns until they are known well enough, `disturbance` watches the machine meanwhile, `compare` judges two of them.

`ssh`, `adb` and `logs` bring rows from elsewhere than here; `judging` holds rows against a target's budget.
"""

from __future__ import annotations
