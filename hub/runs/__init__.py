"""Advancing runs: decide (pure), commit (T5), gate (T4), call, and record what came of it.

`runner` carries decisions out, `writer` commits them under the run's lease, `gate` asks whether a call may still be made,
`calls` makes it and says what came of it. Whatever happens here may be cut off at any line: the next claim finds in the
store where the run stands and whether a call may have been made.
"""

from hub.runs.hand import Hand, Tools
from hub.runs.runner import Runner

__all__ = ["Hand", "Runner", "Tools"]
