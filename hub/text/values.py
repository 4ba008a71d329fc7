"""JSON values in texts: how they are written, and what a template's value may be."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import Decimal

from liquid.undefined import is_undefined

from hub.errors import HubError
from hub.events import Json, Money


class TextError(HubError):
    """A template cannot be read or rendered. Correct the place named; the data is not shown."""


def as_text(value: object) -> str:
    """A value inside a text: money as `50.00 EUR`, null as nothing, lists and mappings as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not is_undefined(value) and isinstance(value, Mapping | list | tuple):
        return str(money) if (money := money_of(value)) else json.dumps(value, ensure_ascii=False)
    return str(value)


def money_of(value: object) -> Money | None:
    """A mapping that is money, else None."""
    if isinstance(value, Mapping) and value.keys() == {"amount_minor", "currency"}:
        amount, currency = value["amount_minor"], value["currency"]
        if isinstance(amount, int) and isinstance(currency, str):
            return Money(amount_minor=amount, currency=currency)
    return None


def typed(value: object) -> Json:
    """An expression's value as JSON. Raises TextError for a number that is none; Liquid's error for a missing path."""
    if is_undefined(value):
        return str(value)  # raises, naming the path
    if isinstance(value, Decimal):
        value = int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise TextError("the number is not finite")
    if value is None or isinstance(value, str | bool | int | float | Mapping | list):
        return value
    return as_text(value)


def length(value: Json, limit: int) -> int:
    """About how many characters a value takes as JSON; counting stops beyond `limit`."""
    if isinstance(value, str):
        return len(value)
    if not isinstance(value, Mapping | list):
        return 1
    total = len(value) + sum(map(len, value)) if isinstance(value, Mapping) else len(value)
    for inner in value.values() if isinstance(value, Mapping) else value:
        if total > limit:
            break
        total += length(inner, limit - total)
    return total
