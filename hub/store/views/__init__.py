"""What people look at: runs, events, connections, people, with their reasons. JSON values; lists page by id, newest first."""

from hub.store.views.connections import list_connections, show_subscriptions, trouble
from hub.store.views.events import delivery_view, events_of, list_events, list_refusals, show_event
from hub.store.views.people import erasure_view, export_request_view, find_contact, list_contacts, show_contact
from hub.store.views.runs import list_recipes, list_runs, require_recipe, require_run, show_run
from hub.store.views.totals import counts

__all__ = [
    "counts",
    "delivery_view",
    "erasure_view",
    "events_of",
    "export_request_view",
    "find_contact",
    "list_connections",
    "list_contacts",
    "list_events",
    "list_recipes",
    "list_refusals",
    "list_runs",
    "require_recipe",
    "require_run",
    "show_contact",
    "show_event",
    "show_run",
    "show_subscriptions",
    "trouble",
]
