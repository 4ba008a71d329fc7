"""`wait`: for a length of time, until a date, until a time of day, or for an exit."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from hub import text
from hub.clock import format_duration, parse_duration_ms, parse_time_ms, rfc3339
from hub.conditions import MISSING, resolve
from hub.events import Json
from hub.shapes import Shape
from hub.steps.checking import Check, Place
from hub.steps.decisions import Arrival, Sleep, TimerFired, Wait
from hub.steps.local_time import local_time, parse_time, zone_named
from hub.steps.moment import Ended, Moment, Passed, Result
from hub.steps.step import OUTCOME, Step


def _offset(value: str) -> str:
    parse_duration_ms(value)
    return value


def _time_of_day(value: str) -> str:
    parse_time(value)
    return value


def _zone(value: str) -> str:
    if value != "contact" and zone_named(value) is None:
        raise ValueError(f"there is no zone {value}; a zone looks like Europe/Istanbul, or is contact")
    return value


class Until(BaseModel):
    """A date: written out, or known when the run comes here by a template or a path."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    until: str
    offset: Annotated[str, AfterValidator(_offset)] | None = None
    if_past: Literal["skip", "stop"] = "skip"

    @property
    def is_written_out(self) -> bool:
        """Whether it is an instant or a day, not a name for one."""
        return self.until[:4].isdecimal()

    def instant_ms(self, at: Moment, place: str) -> int:
        """The instant it stands for. Raises TextError when there is none."""
        if self.is_written_out:
            value: Json = self.until
        else:
            value = self._value(at, place)
        shift_ms = parse_duration_ms(self.offset) if self.offset else 0
        return _instant_ms(None if value is MISSING else value, f"{at.path}/{place}") + shift_ms

    def _value(self, at: Moment, place: str) -> Json:
        return at.render(self.until, place) if text.is_template(self.until) else resolve(self.until, at.scope)


def _instant_ms(value: Json, place: str) -> int:
    try:
        whole = f"{value}T00:00:00Z" if isinstance(value, str) and len(value) == len("2026-11-22") else value
        return parse_time_ms(whole)
    except (ValueError, TypeError, OverflowError):
        raise text.TextError(f"{place}: there is no date, such as 2026-11-22T10:00:00Z, to wait for") from None


class LocalTime(BaseModel):
    """The next time it is `time` in a zone; `contact` is the contact's own, none written the hub's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    time: Annotated[str, AfterValidator(_time_of_day)]
    weekday: list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]] = Field(default_factory=list)
    zone: Annotated[str, AfterValidator(_zone)] | None = None

    def instant_ms(self, at: Moment) -> int:
        """The next such instant."""
        name = at.contact.get("zone") if self.zone == "contact" else self.zone
        zone = zone_named(name) or zone_named(at.facts.default_zone) or zone_named("UTC")
        assert zone is not None, "there is always UTC"
        return local_time(at.now_ms, parse_time(self.time), zone, self.weekday)


def _form(value: Json) -> str:
    if isinstance(value, str | int | float):
        return "a duration"
    return "a date" if isinstance(value, Until) or (isinstance(value, dict) and "until" in value) else "a time of day"


def _unfolded(value: Json) -> Json:
    """`{until: {time: "09:00"}}` is another way to write `{time: "09:00"}`."""
    if isinstance(value, dict) and list(value) == ["until"] and isinstance(value["until"], dict):
        return value["until"]
    return value


def _duration_or_exit(value: str) -> str:
    if value != "exit" and parse_duration_ms(value) <= 0:
        raise ValueError(f"{value} is no time to wait; write a duration such as 24h")
    return value


class WaitStep(Step):
    """Wait for a length of time (`24h`), until a date, until a time of day, or for an exit (`exit`)."""

    kind: ClassVar[str] = "wait"

    wait: Annotated[
        Annotated[str, AfterValidator(_duration_or_exit), Tag("a duration")]
        | Annotated[Until, Tag("a date")]
        | Annotated[LocalTime, Tag("a time of day")],
        Discriminator(_form),
        BeforeValidator(_unfolded),
    ]

    def check(self, check: Check, place: Place) -> Shape:
        if check.section == "end":
            check.report("on_end has no waits: the run is over", place)
        if isinstance(self.wait, Until):
            self._check_until(self.wait, check, (*place, "wait", "until"))
        if self.wait == "exit":
            if check.section == "exit":
                check.report("the run is leaving already: wait: exit would wait for ever", place)
            elif not check.has_exits:
                check.report("wait: exit needs an exit_on, else the run would wait for ever", place)
        return OUTCOME

    def _check_until(self, until: Until, check: Check, place: Place) -> None:
        if not until.is_written_out:
            check.dynamic(until.until, place)
            return
        try:
            _instant_ms(until.until, "until")
        except text.TextError:
            check.report(f"{until.until} is no date; write it as 2026-11-22 or 2026-11-22T10:00:00Z", place)

    def reach(self, at: Moment) -> Result:
        if self.wait == "exit":
            return Wait((), None, "waiting for an exit")
        new = "until" not in at.ctx
        if new:
            at.ctx["until"] = self._until_ms(at)
        until_ms = int(at.ctx["until"])
        if until_ms > at.now_ms:
            return Sleep(until_ms, f"waiting until {rfc3339(until_ms)}")
        if new and isinstance(self.wait, Until):
            if self.wait.if_past == "stop":
                return Ended("too_late", f"{rfc3339(until_ms)} has passed")
            return Passed("past", f"{rfc3339(until_ms)} has passed")
        return Passed("waited", self._waited(until_ms))

    def hear(self, at: Moment, arrival: Arrival) -> Result:
        if isinstance(arrival, TimerFired) and int(at.ctx.get("until", at.now_ms + 1)) <= at.now_ms:
            return Passed("waited", self._waited(int(at.ctx["until"])))
        return self.reach(at)

    def _until_ms(self, at: Moment) -> int:
        if isinstance(self.wait, Until):
            return self.wait.instant_ms(at, "wait/until")
        if isinstance(self.wait, LocalTime):
            return self.wait.instant_ms(at)
        return at.reached_ms + parse_duration_ms(self.wait)

    def _waited(self, until_ms: int) -> str:
        if isinstance(self.wait, str):
            return f"waited {format_duration(parse_duration_ms(self.wait))}"
        return f"waited until {rfc3339(until_ms)}"
