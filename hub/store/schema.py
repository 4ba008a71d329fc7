"""The tables. Times are hub time in milliseconds since 1970 (BIGINT), JSON is text: the same on both databases.

See docs/decisions/0002-store.md for why.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()


def _text(name: str, *, null: bool = False, default: str | None = None) -> Column[str]:
    return Column(name, Text, nullable=null, server_default=default)


def _ms(name: str, *, null: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=null)


def _count(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default="0")


# One row per fact that every process must agree on: the clock's offset, the generation of recipes and connections.
meta = Table("meta", metadata, Column("key", Text, primary_key=True), _text("value"))

app = Table(
    "app",
    metadata,
    Column("id", Text, primary_key=True),
    _text("connector"),
    Column("name", Text, nullable=False, unique=True),
    Column("inbound_key", Text, nullable=False, unique=True),
    _text("settings"),
    Column("secret", LargeBinary, nullable=False),
    _text("key_id"),
    _ms("created_at"),
)

connection = Table(
    "connection",
    metadata,
    Column("id", Text, primary_key=True),
    _text("connector"),
    Column("name", Text, nullable=False, unique=True),
    Column("app_id", Text, ForeignKey("app.id")),
    _text("account"),
    Column("inbound_key", Text, nullable=False, unique=True),
    _text("auth"),
    _text("mode"),
    _text("settings"),
    Column("secret", LargeBinary, nullable=False),
    _text("key_id"),
    _count("token_epoch"),
    _ms("token_expires_at", null=True),
    # Who renews the token now, and until when nobody else may (T8).
    _text("token_lease", null=True),
    _ms("token_lease_until", null=True),
    # What a person granted, a JSON list; null where that is not known.
    _text("scopes", null=True),
    _text("health"),
    _text("health_reason", null=True),
    _ms("created_at"),
    # When it was given its credentials anew; null: they are those it was made with.
    _ms("authorised_at", null=True),
    UniqueConstraint("connector", "account", name="connection_account"),
)

# An account that somebody is to authorise in the browser: a new connection, or the one of `connection`. Its id, session and
# state are hashes of what only the browser knows.
authorisation = Table(
    "authorisation",
    metadata,
    Column("id", Text, primary_key=True),
    _text("connector"),
    _text("name"),
    _text("connection", null=True),
    _text("app_id"),
    _text("auth"),
    _text("mode"),
    _text("settings"),
    _text("scopes"),
    Column("secret", LargeBinary, nullable=False),
    _text("key_id"),
    _text("session", null=True),
    _text("state", null=True),
    _ms("expires_at"),
    _ms("used_at", null=True),
    _text("outcome", null=True),
    _text("detail", null=True),
    UniqueConstraint("state", name="authorisation_state"),
)

api_key = Table(
    "api_key",
    metadata,
    Column("hash", Text, primary_key=True),
    _text("name"),
    _text("scope"),
    _ms("created_at"),
)

purpose = Table(
    "purpose", metadata, Column("name", Text, primary_key=True), _text("channel", null=True), _text("legal_class")
)

recipe = Table(
    "recipe",
    metadata,
    Column("name", Text, primary_key=True),
    _text("state"),
    Column("version", Integer, nullable=False),
    _text("draft", null=True),
    _ms("updated_at"),
)

recipe_version = Table(
    "recipe_version",
    metadata,
    Column("recipe", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    _text("definition"),
    _text("source"),
    _ms("published_at"),
)

delivery = Table(
    "delivery",
    metadata,
    Column("id", Text, primary_key=True),
    _text("connector"),
    _text("connection_id"),
    _text("topic"),
    _ms("received_at"),
    _text("request"),
    Column("body", LargeBinary, nullable=False),
    _text("state"),
    _text("note"),
)

refusal = Table(
    "refusal",
    metadata,
    Column("connector", Text, primary_key=True),
    Column("key_hash", Text, primary_key=True),
    Column("reason", Text, primary_key=True),
    Column("minute", BigInteger, primary_key=True),
    _count("count"),
    _text("samples"),
)

dedupe = Table(
    "dedupe",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    _text("event_id", null=True),
    _ms("seen_at"),
)

event = Table(
    "event",
    metadata,
    Column("id", Text, primary_key=True),
    _text("connection_id"),
    _text("delivery_id", null=True),
    _text("type"),
    _ms("occurred_at"),
    _ms("received_at"),
    _text("contact_id", null=True),
    _text("data"),
    _text("subject", null=True),
    _text("stage"),
    _text("note", null=True),
    _count("duplicates"),
    # The run of ours that caused it, where the vendor gives our marker back.
    _text("cause", null=True),
    # Stages in the order of an event's life: enrich, route, routed; or, with the reason in `note`, quarantined, or plugin
    # until the one that brought it is loaded again. What was read of the past is history and stays it, unless its webhook
    # comes later. What was about somebody who was erased is erased, and empty.
    Index("event_unrouted", "id", postgresql_where=text("stage = 'route'"), sqlite_where=text("stage = 'route'")),
    Index(
        "event_enrich", "type", "id", postgresql_where=text("stage = 'enrich'"), sqlite_where=text("stage = 'enrich'")
    ),
    Index("event_plugin", "id", postgresql_where=text("stage = 'plugin'"), sqlite_where=text("stage = 'plugin'")),
    Index("event_of_contact", "contact_id", "received_at"),
    Index("event_of_type", "type", "id"),
)

# Since when all events of a type are known, where a connection's past was read (`progress` is how the last reading ended); of
# the others it is since the connection is there.
known_since = Table(
    "known_since",
    metadata,
    Column("connection_id", Text, primary_key=True),
    Column("type", Text, primary_key=True),
    _ms("since"),
    _text("progress"),
    _ms("finished_at"),
)

# Identities of unrouted events (`email:…`) and the fields a trigger lists in `correlate` (`message_id=…`).
event_key = Table(
    "event_key",
    metadata,
    Column("type", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
)

contact = Table(
    "contact",
    metadata,
    Column("id", Text, primary_key=True),
    _text("first_name", null=True),
    _text("last_name", null=True),
    _text("language", null=True),
    _text("zone", null=True),
    _text("tags"),
    _text("attributes"),
    _ms("created_at"),
)

identity = Table(
    "identity",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    _text("contact_id"),
    _ms("added_at"),
    Index("identity_of_contact", "contact_id"),
)

# The ledger: one row per statement, never changed. What it permits is `purposes.permits` over an address's rows.
consent = Table(
    "consent",
    metadata,
    Column("id", Text, primary_key=True),
    _text("channel"),
    _text("address"),
    _text("purpose"),
    _text("state"),
    _text("reason"),
    _text("source"),
    _text("event_id", null=True),
    _ms("at"),
    Index("consent_of_address", "channel", "address"),
)

_LIVE = "finished_at is null"
_ENDED_AMISS = "ended_by in ('failed', 'cancelled')"
run = Table(
    "run",
    metadata,
    Column("id", Text, primary_key=True),
    _text("recipe"),
    Column("version", Integer, nullable=False),
    _text("contact_id", null=True),
    _text("entry_key"),
    _text("scope"),
    _text("status"),
    _text("at_step", null=True),
    _text("trigger_data"),
    _text("ctx"),
    _text("wake", null=True),
    _text("stop", null=True),
    _text("reason", null=True),
    _text("ended_by", null=True),
    _ms("started_at"),
    _ms("finished_at", null=True),
    _count("steps"),
    _count("watches"),
    # How many runs in a row were started by each other's effects, and which run this one repeats.
    _count("depth"),
    _text("retry_of", null=True),
    UniqueConstraint("recipe", "entry_key", name="run_entry"),
    Index("run_of_contact", "contact_id", "id"),
    # By what changes only when a run ends: an index with the status in it would be rewritten at every step.
    Index("run_amiss", "ended_by", "id", postgresql_where=text(_ENDED_AMISS), sqlite_where=text(_ENDED_AMISS)),
    Index("run_inside", "recipe", "scope", "id", postgresql_where=text(_LIVE), sqlite_where=text(_LIVE)),
    Index(
        "run_retry",
        "retry_of",
        postgresql_where=text("retry_of is not null"),
        sqlite_where=text("retry_of is not null"),
    ),
)

work = Table(
    "work",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("ref", Text, primary_key=True),
    _text("queue"),
    _ms("due_at"),
    Column("epoch", BigInteger, nullable=False, server_default="0"),
    _text("owner", null=True),
    _count("claims"),
    _count("attempts"),
    # When it was due before it was claimed: how late the claim came.
    _ms("was_due_at", null=True),
    _text("parked_on", null=True),
    _text("data", null=True),
    Index("work_due", "due_at"),
    Index("work_queue_due", "queue", "due_at"),
    Index(
        "work_parked",
        "parked_on",
        postgresql_where=text("parked_on is not null"),
        sqlite_where=text("parked_on is not null"),
    ),
    # Every advance rewrites the row; room on the page keeps most of that off the indexes that did not change.
    postgresql_with={"fillfactor": "50"},
)

step = Table(
    "step",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("seq", Integer, primary_key=True),
    _text("step_id"),
    _text("path"),
    _text("kind"),
    _text("outcome"),
    _text("reason"),
    _ms("at"),
)

_AMISS = "state in ('failed', 'skipped', 'unknown')"
effect = Table(
    "effect",
    metadata,
    Column("key", Text, primary_key=True),
    _text("run_id"),
    _text("step_id"),
    _text("action"),
    _text("connection"),
    _text("state"),
    _text("token"),
    _text("request"),
    _text("response", null=True),
    _text("outcome", null=True),
    _text("reason", null=True),
    _count("attempts"),
    _ms("intended_at"),
    _ms("finished_at", null=True),
    _text("batch", null=True),
    Index("effect_of_run", "run_id"),
    Index("effect_amiss", "state", "run_id", postgresql_where=text(_AMISS), sqlite_where=text(_AMISS)),
    Index(
        "effect_of_batch",
        "batch",
        "state",
        "key",
        postgresql_where=text("batch is not null"),
        sqlite_where=text("batch is not null"),
    ),
    Index(
        "effect_unknown",
        "finished_at",
        postgresql_where=text("state = 'unknown'"),
        sqlite_where=text("state = 'unknown'"),
    ),
)

waiter = Table(
    "waiter",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("n", Integer, primary_key=True),
    _text("kind"),
    _text("name"),
    _text("type"),
    _text("key"),
    _text("condition", null=True),
    _ms("since"),
    Index("waiter_key", "type", "key"),
)

entry = Table(
    "entry",
    metadata,
    Column("recipe", Text, primary_key=True),
    Column("scope", Text, primary_key=True),
    _text("times"),
)

message = Table(
    "message",
    metadata,
    Column("effect_key", Text, primary_key=True),
    _text("contact_id", null=True),
    _text("channel"),
    _text("purpose"),
    _text("recipe"),
    _ms("reserved_at"),
    _ms("sent_at", null=True),
    Index("message_of_contact", "contact_id", "reserved_at"),
)

# Why an event started no run of a recipe that listens for it.
verdict = Table(
    "verdict",
    metadata,
    Column("event_id", Text, primary_key=True),
    Column("recipe", Text, primary_key=True),
    _text("contact_id", null=True),
    _text("outcome"),
    _text("reason"),
    _ms("at"),
    Index("verdict_of_contact", "contact_id", "at"),
)

# What is held back, by whom and why. Every process reads it each second, before it makes calls.
pause = Table(
    "pause",
    metadata,
    Column("id", Text, primary_key=True),
    _text("kind"),
    _text("target"),
    _text("reason"),
    _text("who"),
    _ms("at"),
    UniqueConstraint("kind", "target", name="pause_target"),
)

# The breaker of a connection that is not closed: who rests, until when, or who is being tried. In hub time.
breaker = Table(
    "breaker",
    metadata,
    Column("connection", Text, primary_key=True),
    _text("state"),
    _ms("until"),
    _count("trips"),
    _text("reason"),
    _ms("since"),
)

# What was used of a quota or a spending cap in one period (its start): subjects such as `connection:sms:spend`.
usage = Table(
    "usage",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("period", BigInteger, primary_key=True),
    Column("used", BigInteger, nullable=False, server_default="0"),
)

# How much may be spent: at most so many of a unit per day or month, on a connection or by a recipe.
cap = Table(
    "cap",
    metadata,
    Column("id", Text, primary_key=True),
    _text("kind"),
    _text("target"),
    _text("per"),
    _text("unit"),
    Column("most", BigInteger, nullable=False),
    _ms("at"),
    UniqueConstraint("kind", "target", "per", "unit", name="cap_target"),
)

# What a call that is about to be made, or under way, has taken from `usage`: given back when it certainly was not made.
spend = Table(
    "spend",
    metadata,
    Column("effect_key", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    _text("token"),
    Column("period", BigInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),
)

# How many places of a connection's rota were given, and the place that an effect got, by its reference at the vendor.
rota = Table(
    "rota",
    metadata,
    Column("connection_id", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("given", BigInteger, nullable=False),
)
rota_place = Table(
    "rota_place",
    metadata,
    Column("reference", Text, primary_key=True),
    Column("connection_id", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("place", BigInteger, nullable=False),
    _ms("at"),
)

# The processes that are at work, by their last sign of life (real time).
process = Table(
    "process",
    metadata,
    Column("id", Text, primary_key=True),
    _text("kind"),
    _text("version"),
    _ms("started_at"),
    _ms("seen_at"),
    _count("busy"),
    _count("slots"),
    # What it has counted since it started, as JSON.
    _text("tally", null=True),
)

# -- erasing -----------------------------------------------------------------------------------------------------------

# The secret under which erased people are known: `hub.pepper`, sealed like credentials.
pepper = Table(
    "pepper",
    metadata,
    Column("id", Text, primary_key=True),
    Column("secret", LargeBinary, nullable=False),
    _text("key_id"),
)

# Keyed hashes of the identities of people who were erased, and when that was.
tombstone = Table("tombstone", metadata, Column("hash", Text, primary_key=True), _ms("erased_at"))

# What was erased at whose word; nothing in it says who the person was. `counts` is JSON: how much of what.
erasure = Table(
    "erasure",
    metadata,
    Column("id", Text, primary_key=True),
    _text("kind"),
    _text("reason"),
    _text("who"),
    _text("event_id", null=True),
    _text("part_of", null=True),
    _text("state"),
    _text("note", null=True),
    _text("counts", default="{}"),
    _ms("at"),
    _ms("finished_at", null=True),
    Index(
        "erasure_part",
        "part_of",
        "state",
        postgresql_where=text("part_of is not null"),
        sqlite_where=text("part_of is not null"),
    ),
)

# A vendor passed on that somebody wants to know what is known of them; its id is that of the event.
export_request = Table(
    "export_request",
    metadata,
    Column("id", Text, primary_key=True),
    _text("contact_id", null=True),
    _text("connection_id"),
    _text("type"),
    _text("state"),
    _text("who", null=True),
    _ms("at"),
    _ms("answered_at", null=True),
    Index(
        "export_request_of_contact",
        "contact_id",
        postgresql_where=text("contact_id is not null"),
        sqlite_where=text("contact_id is not null"),
    ),
)

# The connections that are to forget somebody: `owner` is the contact who withdrew a consent, or the erasure.
forgetting = Table(
    "forgetting",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("connection", Text, primary_key=True),
    _ms("asked_at"),
    _ms("done_at", null=True),
)

# -- merging -----------------------------------------------------------------------------------------------------------

# Two contacts that are one person: `other` was merged into `kept` and is no contact any more, until that is undone. `before`
# is JSON: what only the merge knows of how both were; empty once it is undone.
merge = Table(
    "contact_merge",
    metadata,
    Column("id", Text, primary_key=True),
    _text("kept"),
    _text("other"),
    _text("who"),
    _text("before"),
    _ms("at"),
    _ms("undone_at", null=True),
    Index("contact_merge_kept", "kept"),
    Index("contact_merge_other", "other"),
)

# What a merge moved, so that it can be moved back: the kind of row, and its key.
merge_row = Table(
    "contact_merge_row",
    metadata,
    Column("merge_id", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("ref", Text, primary_key=True),
)
