"""Runs: started in `starting` (T2), advanced in `advancing` (T5, T6), woken and stopped in `waking` (T10).

Their calls are written in `effects`, those that are made together in `batches`; how both are stored is in `rows`.
"""

from hub.store.runs.advancing import Advance, Advanced, Held, StepRow, WatchRow, advance, arm, hold
from hub.store.runs.batches import freeze_batch, queued_in, settle_batch, thaw_batch
from hub.store.runs.effects import EffectResult, intend, refusal, reserve_message
from hub.store.runs.rows import EffectRow, RunRow, effect_state, load, open_effects, outcome_of
from hub.store.runs.starting import Lease, NewRun, entries, inside, known_keys, start, write_entries
from hub.store.runs.waking import Waiting, stop, waiting_for, wake

__all__ = [
    "Advance",
    "Advanced",
    "EffectResult",
    "EffectRow",
    "Held",
    "Lease",
    "NewRun",
    "RunRow",
    "StepRow",
    "Waiting",
    "WatchRow",
    "advance",
    "arm",
    "effect_state",
    "entries",
    "freeze_batch",
    "hold",
    "inside",
    "intend",
    "known_keys",
    "load",
    "open_effects",
    "outcome_of",
    "queued_in",
    "refusal",
    "reserve_message",
    "settle_batch",
    "start",
    "stop",
    "thaw_batch",
    "waiting_for",
    "wake",
    "write_entries",
]
