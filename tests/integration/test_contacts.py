"""Finding people: one contact per identity, the same whether events come together or one by one, and never merged by accident."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub import Identity
from hub.store import contacts, migrate
from hub.store.contacts import Sighting
from hub.store.session import Connection, Row, Store

people = st.builds(
    Identity,
    email=st.sampled_from([None, "a@x.example", "A@X.example", "b@x.example", "c@x.example"]),
    phone=st.sampled_from([None, "+14155550100", "+1 415 555 0100", "+14155550101"]),
    vendor=st.sampled_from([None, "1", "2"]),
)


async def _resolved(
    subjects: Sequence[Identity], size: int
) -> tuple[list[str | None], dict[str, list[tuple[str, str]]]]:
    store = Store("sqlite:///:memory:")
    await migrate.create_in_memory(store)
    found: dict[str, str] = {}
    for start in range(0, len(subjects), size):
        group = [Sighting(f"e-{n}", "shop", subjects[n], n) for n in range(start, min(start + size, len(subjects)))]
        async with store.write() as c:
            found |= await contacts.resolve(c, group)
    async with store.read() as c:
        known = await contacts.identities(c, set(found.values()))
    await store.close()
    return [found.get(f"e-{n}") for n in range(len(subjects))], known


def _partition(ids: Sequence[str | None]) -> list[int]:
    """Which events have the same contact, independent of the contacts' names."""
    order: dict[str | None, int] = {}
    return [-1 if id_ is None else order.setdefault(id_, len(order)) for id_ in ids]


@settings(max_examples=40, deadline=None)
@given(st.lists(people, min_size=1, max_size=12))
def test_together_or_one_by_one_the_same_people_are_found(subjects: list[Identity]) -> None:
    together, known = asyncio.run(_resolved(subjects, len(subjects)))
    singly, _ = asyncio.run(_resolved(subjects, 1))
    assert _partition(together) == _partition(singly)
    owners = [key for keys in known.values() for key in keys]
    assert len(owners) == len(set(owners))
    for subject, contact in zip(subjects, together, strict=True):
        keys = subject.keys("shop")
        assert (contact is None) == (not keys)
        if keys and contact:
            assert set(keys) & set(known[contact])


async def test_two_known_people_are_not_merged_by_an_event_that_names_both(store: Store) -> None:
    async with store.write() as c:
        first = await contacts.resolve(c, [Sighting("1", "shop", Identity(email="a@x.example"), 1)])
        second = await contacts.resolve(c, [Sighting("2", "shop", Identity(phone="+14155550100"), 2)])
        both = await contacts.resolve(
            c, [Sighting("3", "shop", Identity(email="a@x.example", phone="+14155550100"), 3)]
        )
    assert both["3"] == first["1"] != second["2"]


async def test_what_is_learnt_later_is_kept_and_what_is_not_said_stays(store: Store) -> None:
    async with store.write() as c:
        found = await contacts.resolve(c, [Sighting("1", "shop", Identity(email="a@x.example", first_name="Ada"), 1)])
        await contacts.resolve(c, [Sighting("2", "shop", Identity(email="a@x.example", language="tr"), 2)])
        await contacts.change(
            c, found["1"], [("tags", "add", ["vip", "new"]), ("tags", "remove", "new"), ("attributes.size", "set", 42)]
        )
        fact = (await contacts.facts(c, [found["1"]]))[found["1"]]
    assert (fact["first_name"], fact["language"], fact["tags"], fact["attributes"]) == (
        "Ada",
        "tr",
        ["vip"],
        {"size": 42},
    )


async def test_what_is_old_changes_no_name_also_when_it_is_looked_again_whose_it_is(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two people, one of whom is erased in the moment in which an old event that names both is looked at
    ann, bea = Identity(email="ann@x.example"), Identity(phone="+14155550100", first_name="Bea")
    async with store.write() as c:
        ids = await contacts.resolve(c, [Sighting("e-1", "shop", ann, 1), Sighting("e-2", "shop", bea, 2)])
    lock = contacts.lock

    async def erased(c: Connection, contact_ids: Iterable[str]) -> dict[str, Row]:
        monkeypatch.setattr(contacts, "lock", lock)
        await c.run("delete from identity where contact_id = :id", id=ids["e-1"])
        await c.run("delete from contact where id = :id", id=ids["e-1"])
        return await lock(c, contact_ids)

    monkeypatch.setattr(contacts, "lock", erased)

    # When its person turns out to be the other one
    both = Identity(email="ann@x.example", phone="+14155550100", first_name="Beatrice")
    async with store.write() as c:
        found = await contacts.resolve(c, [Sighting("e-3", "shop", both, 3)], past=True)
        known = await contacts.facts(c, [ids["e-2"]])

    # Then they are called as they were
    assert found == {"e-3": ids["e-2"]}
    assert known[ids["e-2"]]["first_name"] == "Bea"


async def test_two_workers_that_meet_the_same_new_person_make_one_contact(postgres_url: str) -> None:
    store = Store(postgres_url)

    async def meet(n: int) -> str:
        async with store.write() as c:
            return (await contacts.resolve(c, [Sighting(f"e-{n}", "shop", Identity(email="new@x.example"), n)]))[
                f"e-{n}"
            ]

    found = await asyncio.gather(*[meet(n) for n in range(12)])
    assert len(set(found)) == 1
    async with store.read() as c:
        assert len(await c.all("select id from contact")) == 1
    await store.close()


async def test_an_identity_that_another_worker_gave_to_somebody_just_now_merges_nobody(postgres_url: str) -> None:
    store, phone = Store(postgres_url), "+14155550100"
    async with store.write() as c:
        ada = await contacts.resolve(c, [Sighting("1", "shop", Identity(email="ada@x.example"), 1)])
    met = asyncio.Event()

    async def grace() -> str:
        async with store.write() as c:
            found = await contacts.resolve(
                c, [Sighting("2", "shop", Identity(email="grace@x.example", phone=phone, first_name="Grace"), 2)]
            )
            met.set()
            # until the other one waits for the phone number that this one is about to have
            await asyncio.sleep(0.3)
        return found["2"]

    async def ada_with_the_same_phone() -> str:
        await met.wait()
        async with store.write() as c:
            return (
                await contacts.resolve(
                    c, [Sighting("3", "shop", Identity(email="ada@x.example", phone=phone, first_name="Ada"), 3)]
                )
            )["3"]

    second, third = await asyncio.gather(grace(), ada_with_the_same_phone())
    async with store.read() as c:
        known = await contacts.facts(c, [second, third])
    await store.close()
    assert third == ada["1"] != second
    assert {f["first_name"]: (f["email"], f["phone"]) for f in known.values()} == {
        "Ada": ("ada@x.example", None),
        "Grace": ("grace@x.example", phone),
    }
