"""What people and programs are shown, by the REST API and by `--json`: the shape of every answer. Times are RFC 3339, UTC."""

from __future__ import annotations

from typing import Annotated, NotRequired

from pydantic import Field, WithJsonSchema
from typing_extensions import TypedDict

from hub.events import Json

Instant = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
Object = dict[str, Json]


class RunLine(TypedDict):
    """A run in one line."""

    id: str
    recipe: str
    version: int
    contact: str | None
    status: Annotated[str, Field(description="ready, running, sleeping, waiting, parked, done, failed or cancelled")]
    step: str | None
    reason: Annotated[str | None, Field(description="What it waits for, or why it ended")]
    ended_by: str | None
    started_at: Instant
    finished_at: Instant | None
    due_at: Annotated[Instant | None, Field(description="When it goes on by itself")]


class Step(TypedDict):
    """One step that a run has taken."""

    step: str
    path: str
    kind: str
    outcome: str
    reason: str | None
    at: Instant


class Effect(TypedDict):
    """What was asked of a vendor, in which state it is, and why."""

    step: str
    action: str
    connection: str
    state: Annotated[str, Field(description="intended, queued, done, failed, skipped or unknown")]
    reason: str | None
    http_status: Annotated[int | None, Field(description="What the vendor answered, where it was not done")]
    code: Annotated[str | None, Field(description="The vendor's own code for why it was not done, where it gave one")]
    attempts: int
    input: Json
    output: Json
    intended_at: Instant
    finished_at: Instant | None


class Awaited(TypedDict):
    """What a run waits for."""

    kind: str
    name: str
    event: str


class Run(RunLine):
    """A run with every step's reason, its effects and what it waits for."""

    trigger: Object
    steps: list[Step]
    effects: list[Effect]
    waits_for: list[Awaited]


class EventLine(TypedDict):
    """An event in one line, without its data."""

    id: str
    type: str
    connection: str | None
    contact: str | None
    stage: Annotated[
        str, Field(description="enrich, route, routed, quarantined, plugin, unconnected, history or erased")
    ]
    note: str | None
    duplicates: int
    occurred_at: Instant
    received_at: Instant


class Verdict(TypedDict):
    """Why an event started no run of a recipe."""

    recipe: str
    event: str
    outcome: str
    reason: str
    at: Instant


class Event(EventLine):
    """An event with its data, the runs it started, and why it started none of others."""

    data: Object
    started: list[RunLine]
    not_started: list[Verdict]


class Delivery(TypedDict):
    """A call that was stored, without its body."""

    id: str
    connector: str
    topic: str
    state: Annotated[str, Field(description="accepted, unrecognised or unreadable")]
    note: Annotated[str | None, Field(description="Why, when it is not accepted")]
    bytes: int
    received_at: Instant


class Refusal(TypedDict):
    """Calls that were refused at one address for one reason within one minute."""

    connector: str
    connection: Annotated[
        str | None, Field(description="Whose address it is; null: none of a connection that there is")
    ]
    app: Annotated[str | None, Field(description="Whose address it is, when it is that of an app")]
    key_hash: str
    reason: str
    count: int
    minute: Instant
    samples: Json
    remedy: Annotated[str, Field(description="What to look at first")]


class Identity(TypedDict):
    """What a person is known by."""

    kind: str
    value: str


class Consent(TypedDict):
    """What the ledger says about an address."""

    channel: str
    address: str
    purpose: str
    state: str
    reason: str | None
    source: str
    at: Instant


class Message(TypedDict):
    """A message to a person, and what became of it."""

    channel: str
    purpose: str
    recipe: str
    state: str
    reason: str | None
    at: Instant


class Person(TypedDict):
    """What recipes may know of a contact."""

    id: str
    email: str | None
    phone: str | None
    first_name: str | None
    last_name: str | None
    language: str | None
    zone: str | None
    tags: list[str]
    attributes: Object


class Moment(TypedDict):
    """One thing that happened to a person, or that was decided about them."""

    at: Instant
    what: Annotated[
        str,
        Field(description="event, run started, run ended, message, consent, not started, forget, merged or unmerged"),
    ]
    about: Annotated[
        str, Field(description="The event's type, the recipe, the channel and purpose, or the other contact")
    ]
    reason: str | None
    id: Annotated[str | None, Field(description="Of the event, run or merge")]


class Forgetting(TypedDict):
    """A connection that was asked to forget a person; `done_at` null: its vendor has not done it yet."""

    connection: str
    asked_at: Instant
    done_at: Instant | None


class Merge(TypedDict):
    """Two contacts that are one person: `other` is no contact any more, unless it was undone.

    `other_was` is what was known of it, and `identities` what it was known by; empty when it was undone.
    """

    id: str
    kept: str
    other: str
    who: str
    at: Instant
    undone_at: Instant | None
    other_was: Object
    identities: list[Identity]


class Merging(TypedDict):
    """What a merge moved from `other` to `kept`, or would move (`id` null), and which runs it ended, each with the reason."""

    id: str | None
    kept: str
    other: str
    at: Instant
    identities: int
    events: int
    runs: int
    live_runs: Annotated[int, Field(description="Of the runs those that go on")]
    messages: int
    ended: dict[str, str]


class Unmerged(TypedDict):
    """A merge that was undone. What came since stays with `kept`."""

    id: str
    kept: str
    other: str
    at: Instant
    events_stay: int
    runs_stay: int


class Contact(Person):
    """A person: identities, consent, the newest runs and messages, why they did not enter recipes; and all that in time."""

    identities: list[Identity]
    consent: list[Consent]
    runs: list[RunLine]
    messages: list[Message]
    not_started: list[Verdict]
    forgetting: list[Forgetting]
    merges: Annotated[list[Merge], Field(description="The newest first")]
    timeline: Annotated[list[Moment], Field(description="The newest first")]


class WholeEvent(EventLine):
    """An event with its data."""

    data: Object


class Export(TypedDict):
    """Everything that is known of a person: what they are known by and agreed to, what they did, and what was done."""

    exported_at: Instant
    contact: Contact
    events: list[WholeEvent]
    runs: list[Run]


class Erasure(TypedDict):
    """What was erased. Nothing in it says who the person was."""

    id: str
    kind: Annotated[str, Field(description="person, or account: everybody known through one connection only")]
    state: Annotated[str, Field(description="open until all that was stored is empty, then done")]
    reason: str
    who: Annotated[str, Field(description="Who ordered it; of an event its type")]
    event: str | None
    note: str | None
    counts: Annotated[dict[str, int], Field(description="How much was emptied, by what it was; known at the end")]
    connections_done: Annotated[int, Field(description="How many connections have forgotten")]
    connections_pending: Annotated[int, Field(description="How many are still to forget")]
    at: Instant
    finished_at: Instant | None


class ExportRequest(TypedDict):
    """Somebody asked a vendor what is known of them. `contact` null: the hub does not know them, or not any more."""

    id: Annotated[str, Field(description="That of the event")]
    contact: str | None
    connection: str | None
    event: Annotated[str, Field(description="The event's type")]
    state: Annotated[str, Field(description="open or done")]
    who: Annotated[str | None, Field(description="Who answered it")]
    at: Instant
    answered_at: Instant | None


class Counts(TypedDict):
    """How much of everything there is; runs by status and by how they ended, effects and deliveries by state."""

    events: int
    duplicates: int
    refused: int
    deliveries: dict[str, int]
    runs: dict[str, int]
    ended_by: dict[str, int]
    effects: dict[str, int]


class RecipeLine(TypedDict):
    """A recipe in one line."""

    name: str
    state: Annotated[str, Field(description="draft, published or paused")]
    version: Annotated[int, Field(description="The live version; 0 when it was never published")]
    draft: Annotated[bool, Field(description="Whether there is a newer draft")]
    updated_at: Instant


class Version(TypedDict):
    """A published version, and how many runs are inside."""

    version: int
    published_at: Instant
    inside: int


class Recipe(TypedDict):
    """A recipe's text as written, and its versions, newest first."""

    name: str
    source: str
    versions: list[Version]


class Purpose(TypedDict):
    """A purpose that a message may have."""

    name: str
    channel: Annotated[str | None, Field(description="Null: any")]
    legal_class: Annotated[str, Field(description="transactional, marketing or service")]


class Connection(TypedDict):
    """An authorised account, without its secrets."""

    id: str
    name: str
    connector: str
    account: str
    mode: Annotated[str, Field(description="live or sandbox")]
    auth: str
    settings: dict[str, str]
    health: Annotated[str, Field(description="ok, resting until its vendor is well, or needs re-authorisation")]
    health_reason: str | None
    webhook_url: Annotated[str, Field(description="Where the vendor calls; empty without a public URL")]
    connected_at: Instant
    known_since: Annotated[
        dict[str, Instant],
        Field(
            description="By event type, where the past was read: since when all that happened is known. Else connected_at"
        ),
    ]
    subscriptions: Annotated[
        str | None, Field(description="How its subscriptions stand; null where nothing is subscribed to")
    ]


class Backfill(TypedDict):
    """How far the past of one event type was read."""

    event: str
    state: Annotated[str, Field(description="reading, waiting (until again_at), parked, done or never")]
    since_at: Instant | None
    pages: int
    items: int
    new: Annotated[int, Field(description="How many of the items were not known before")]
    oldest_at: Annotated[Instant | None, Field(description="When the oldest of the items happened")]
    newest_at: Annotated[Instant | None, Field(description="When the newest of the items happened")]
    problem: str | None
    again_at: Instant | None
    finished_at: Annotated[Instant | None, Field(description="When a reading came to its end last")]


class Choice(TypedDict):
    """One thing to choose at a vendor; `hint` tells two of one label apart."""

    id: str
    label: str
    hint: str


class StoredSecret(TypedDict):
    """A secret that is written and never read: whether it is there, and how it ends."""

    name: str
    set: bool
    ends_with: Annotated[str | None, Field(description="Its last four characters; null when it has fewer than twelve")]


class ConnectionInFull(Connection):
    """A connection with what there is of secrets."""

    secrets: list[StoredSecret]


class MissingScope(TypedDict):
    """A scope that was not granted, and the recipes that need it."""

    scope: str
    recipes: list[str]


class Tested(TypedDict):
    """The account behind a connection, in the vendor's words; what its token lacks, when it ends, and what to mind."""

    id: str
    title: str
    zone: str | None
    currency: str | None
    scopes: list[str] | None
    missing_scopes: list[MissingScope]
    token_expires_at: Instant | None
    subscriptions: str | None
    warnings: list[str]


class HeldSubscription(TypedDict):
    """A subscription of ours at the vendor."""

    id: str
    topic: str
    expires_at: Instant | None


class MendedSubscription(TypedDict):
    """What was done about a subscription."""

    topic: str
    deed: Annotated[str, Field(description="created, deleted or renewed")]
    why: str
    at: Instant


class Subscriptions(TypedDict):
    """A connection's subscriptions as they were found and mended last."""

    connection: str
    address: Annotated[
        str | None, Field(description="What the vendor was told to call; null while it was told nothing")
    ]
    wanted: list[str]
    there: list[HeldSubscription]
    missing: list[str]
    mended: Annotated[list[MendedSubscription], Field(description="The newest first, fifty at most")]
    looked_at: Instant | None
    next_at: Annotated[
        Instant | None, Field(description="When it is looked at again; null while it is, or is set aside")
    ]
    problem: str | None


class Removed(TypedDict):
    """A connection that was removed, whether the vendor has revoked its token, and how many subscriptions were deleted."""

    id: str
    name: str
    revoked: bool
    unsubscribed: int
    problem: str | None


class App(TypedDict):
    """A registration of ours at a vendor."""

    id: str
    name: str
    connector: str
    webhook_url: Annotated[str, Field(description="Where the vendor calls; empty without a public URL")]
    callback_url: Annotated[str, Field(description="The redirect URL to enter at the vendor, where it takes one")]


class AppInFull(App):
    """An app with its settings and what there is of secrets."""

    settings: dict[str, str]
    secrets: list[StoredSecret]


class RemovedApp(TypedDict):
    """An app that was removed."""

    id: str
    name: str


class Authorisation(TypedDict):
    """An account that somebody is to authorise: open `url` in a browser before `expires_at`."""

    id: str
    url: str
    scopes: list[str]
    expires_at: Instant
    callback_url: str


class Authorised(TypedDict):
    """How an authorisation stands."""

    id: str
    state: Annotated[str, Field(description="waiting, connected, failed or expired")]
    detail: Annotated[str | None, Field(description="The connection's name, or why it failed")]


class Pause(TypedDict):
    """What is held back, by whom and why."""

    id: str
    kind: str
    target: str
    about: str
    reason: str
    who: str
    at: Instant


class PauseHolding(Pause):
    """A pause and what it holds back now; `late` waits longer than asked about, `expired` past its own `valid_for`."""

    runs: int
    batches: int
    late: int
    expired: int


class PauseEnded(Pause):
    """A pause that was ended: how much goes on, and how much of it skips its call for being late."""

    released: int
    late: int


class CapUsed(TypedDict):
    """A spending cap with what was used of it in its present period, which ends at `until_at`."""

    id: str
    kind: str
    target: str
    per: str
    unit: str
    most: int
    used: int
    until_at: Instant


class Answered(TypedDict):
    """A run that was told whether its last call was made, and goes on."""

    run: str
    status: str


class Clock(TypedDict):
    """Hub time, and how far ahead of real time it is."""

    now: Instant
    offset_ms: int
    development: bool


class Advanced(TypedDict):
    """Hub time after a jump, and at how many instants it stopped on the way."""

    now: Instant
    stops: int


class Spooled(TypedDict):
    """What waits in the spool."""

    records: int
    bytes: int
    oldest: Instant | None


class Health(TypedDict):
    """How this process is, and why."""

    status: Annotated[str, Field(description="ok, degraded, spooling, unavailable or dead")]
    reason: NotRequired[str]
    reasons: NotRequired[list[str]]
    turned_away: NotRequired[Annotated[int, Field(description="Deliveries that were answered 503 since the start")]]
    spool: NotRequired[Spooled]


class Process(TypedDict):
    """A process of the hub at work."""

    id: str
    kind: str
    version: str
    up_s: int
    seen_s: Annotated[int, Field(description="Seconds since its last sign of life")]
    busy: int
    slots: int


class Totals(TypedDict):
    """What the processes counted since they started."""

    deliveries: int
    events: int
    runs_started: int
    runs_finished: int
    effects: dict[str, int]


class ConnectionVitals(TypedDict):
    """How the calls of a connection are doing."""

    name: str
    health: str
    in_flight: int
    held_s: float
    breaker: str
    due: int
    oldest_due_s: float


class Vitals(TypedDict):
    """How the whole hub is doing."""

    at_ms: int
    processes: list[Process]
    totals: Totals
    due: int
    oldest_due_s: float
    waiting: int
    waiting_estimated: bool
    unrouted: int
    ingest_lag_s: float
    parked: dict[str, int]
    unknown_last_day: int
    connections: list[ConnectionVitals]
