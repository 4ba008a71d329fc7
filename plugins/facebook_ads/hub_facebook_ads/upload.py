"""Uploads of people: one body for many, in columns of which each person fills what is known.

Shapes: "Customer File Custom Audiences", v25.0, read 2026-11-22.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from hub import ActionContext, Json
from hub_facebook_ads.client import call
from hub_facebook_ads.matching import KEYS

# Meta takes 10,000, and large bodies have failed; with all columns so many rows are just below a megabyte.
MOST_ROWS = 1000
LIMITED = "DATA_PROCESSING_OPTIONS"
_LDU = "LDU"


class Uploaded(BaseModel):
    """What Meta says of an upload. Whether people are recognised it does not say."""

    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)

    session_id: str = ""
    num_received: int = 0
    num_invalid_entries: int = 0
    invalid_entry_samples: dict[str, Json] | list[Json] = {}

    @property
    def invalid_cells(self) -> frozenset[str]:
        """The cells that Meta shows as invalid: a sample, by value."""
        return frozenset(self.invalid_entry_samples if isinstance(self.invalid_entry_samples, dict) else ())


def payload(rows: Sequence[Mapping[str, str]], limited: Sequence[bool]) -> dict[str, Json]:
    """Rows (key to cell) as a schema and as many cells each; `limited` are those of Limited Data Use."""
    known = {key for row in rows for key in row}
    schema = [key for key in KEYS if key in known]
    data: list[list[Json]] = [[row.get(key, "") for key in schema] for row in rows]
    if any(limited):
        data = [[*cells, [_LDU] if is_limited else []] for cells, is_limited in zip(data, limited, strict=True)]
        # Always the list form: an audience that was once filled by another is closed to this one.
        return {"schema": [*schema, LIMITED], "data": data}
    return {"schema": schema, "data": data}


def session(reference: str, what: str, count: int) -> dict[str, Json]:
    """A session of one batch, named by the call it is of: the same again when that is repeated, another for all others."""
    digest = hashlib.sha256(f"{reference}\0{what}".encode()).digest()
    # A positive number of 64 bits, kept where every reader of JSON is exact.
    number = int.from_bytes(digest[:8]) % (2**53 - 1) + 1
    return {"session_id": number, "batch_seq": 1, "last_batch_flag": True, "estimated_num_total": count}


async def upload(
    ctx: ActionContext,
    method: str,
    path: str,
    rows: Sequence[Mapping[str, str]],
    *,
    limited: Sequence[bool] = (),
) -> Uploaded:
    """Send rows to `path` by POST (add) or DELETE (remove). Idempotent: membership is a set."""
    body = {"payload": payload(rows, limited), "session": session(ctx.reference, f"{method} {path}", len(rows))}
    return await call(ctx, method, path, Uploaded, json=body)
