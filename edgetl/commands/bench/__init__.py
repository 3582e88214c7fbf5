"""`edgetl bench`: honest latency. One child process per row, rows in turns, intervals, and what disturbed the machine.

`jobs` finds what to run and `rows` defines a row. `worker` runs in the child, `child` talks to it, and `protocol` is what they
say. `schedule` times the rows in turns until each is known well enough, `disturbance` watches the machine meanwhile, and
`compare` compares two rows.

`remote/` measures on boards and phones, `logs/` reads rows from other tools' output; `judging` checks rows against a target's
budget.
"""

from __future__ import annotations
