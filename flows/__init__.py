"""The flows, and the command line. In a run that a worker starts nobody sets up logs: our lines are let through here.

Prefect gives the `unroll` loggers its handler, and no level: without one they would keep to the root logger's, WARNING.
"""

import logging

_ours = logging.getLogger("unroll")
if _ours.level == logging.NOTSET:
    _ours.setLevel(logging.INFO)
