"""Who opened an e-mail: a person, a machine that fetches images, or nobody can tell. Pure."""

from __future__ import annotations

from enum import StrEnum


class Opener(StrEnum):
    """What an opened e-mail was most likely opened by."""

    HUMAN = "human"
    MACHINE = "machine"
    UNKNOWN = "unknown"


# Mail providers that fetch images for their users say so; Apple's privacy proxy calls itself `Mozilla/5.0` and no more.
_PROXIES = ("googleimageproxy", "yahoomailproxy", "bingpreview", "barracuda", "proofpoint", "mimecast")
_APPLE_PROXY = "Mozilla/5.0"


def opener(
    *,
    after_s: float | None,
    machine_within_s: float,
    clicked: bool = False,
    bounced: bool = False,
    user_agent: str | None = None,
) -> Opener:
    """What opened an e-mail `after_s` seconds after it left, as far as the rest tells.

    Images are fetched within seconds of the delivery by machines, even of an e-mail that then bounces hard (live probes
    of GitHub estuary/connectors, source-mailchimp-native, 2026-07). A click is a stronger sign of a person than an open.
    """
    agent = (user_agent or "").strip()
    if bounced or agent == _APPLE_PROXY or any(proxy in agent.lower() for proxy in _PROXIES):
        return Opener.MACHINE
    if after_s is not None and after_s < machine_within_s:
        return Opener.MACHINE
    return Opener.HUMAN if clicked else Opener.UNKNOWN
