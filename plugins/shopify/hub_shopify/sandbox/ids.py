"""Ids as Shopify writes them, topics as its enum does; the sandbox's own, apart from the connector's."""

from __future__ import annotations


def gid(kind: str, id: object) -> str:
    return f"gid://shopify/{kind}/{id}"


def plain(global_id: object) -> str:
    return str(global_id).rpartition("/")[2]


def enum_of(topic: str) -> str:
    return topic.replace("/", "_").replace(".", "_").upper()
