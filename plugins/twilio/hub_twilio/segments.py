"""How many segments a text is sent and billed in: by its alphabet and length."""

from __future__ import annotations

# The GSM-7 default alphabet, and the characters of its extension, which take two places (3GPP TS 23.038, read 2026-11).
_GSM_7 = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED = frozenset("\f^{}\\[~]|€")
# One segment holds so many places; of several, each gives some away to its header (Twilio, SMS character limit, read 2026-11).
_GSM_PLACES = (160, 153)
_UCS_2_PLACES = (70, 67)


def segments(body: str) -> int:
    """The segments of a text: GSM-7 where every character is in its alphabet, else UCS-2."""
    if all(letter in _GSM_7 or letter in _EXTENDED for letter in body):
        return _packed([2 if letter in _EXTENDED else 1 for letter in body], *_GSM_PLACES)
    return _packed([len(letter.encode("utf-16-be")) // 2 for letter in body], *_UCS_2_PLACES)


def _packed(places: list[int], alone: int, together: int) -> int:
    """How many segments hold these characters; none is torn apart."""
    if sum(places) <= alone:
        return 1
    count, free = 1, together
    for needed in places:
        if needed > free:
            count, free = count + 1, together
        free -= needed
    return count
