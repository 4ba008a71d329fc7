"""Amounts as Meta writes them: whole numbers of a currency's smallest unit, which is not always that of ISO 4217."""

from __future__ import annotations

from decimal import Decimal

from hub import Money

# All others are counted in hundredths, also the dinars of three decimals. (dev.fb "Currency Codes", read 2026-11-22)
_WHOLE = frozenset({"CLP", "COP", "CRC", "HUF", "IDR", "ISK", "JPY", "KRW", "PYG", "TWD", "VND"})


def minor_units(money: Money) -> int:
    """`50.00 EUR` as 5000, `5000 JPY` as 5000. Raises ValueError when the amount is finer than Meta counts."""
    found = amount(money) * (1 if money.currency in _WHOLE else 100)
    if found != found.to_integral_value():
        raise ValueError(f"{money} is finer than Meta counts in {money.currency}; round it")
    return int(found)


def amount(money: Money) -> Decimal:
    """The amount in the currency's own unit: `50.00 EUR` as 50.00."""
    return Decimal(str(money).split()[0])
