"""Who gets the free slots when there is not enough for all: fair between recipes, the urgent first, pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import ceil

from hub.store.lanes import Lane

# What the less urgent get at least, as a part of the free slots.
_LESSER = 0.1


def most_of_one(slots: int) -> int:
    """How many slots one recipe may hold though nobody else wants any: some stay free for who comes next."""
    return max(1, slots - slots // 8)


def share_out(
    due: Sequence[Lane],
    *,
    slots: int,
    free: int,
    in_hand: Mapping[str, int],
    room: Callable[[str], int | None],
    draw: float,
) -> dict[Lane, int]:
    """How much to claim from each lane that has due work, longest due first; nothing where nothing fits.

    `in_hand` is what each owner of lanes holds now, `room` how many calls of a connection can be made (None: any number);
    `draw`, between 0 and 1, decides about the fraction of a slot.
    """
    rooms = {lane.connection: room(lane.connection) for lane in due if lane.connection}
    owners = {lane.owner for lane in due if rooms.get(lane.connection) != 0}
    share = ceil(most_of_one(slots) / len(owners)) if owners else 0
    allowance = {owner: max(0, share - in_hand.get(owner, 0)) for owner in owners}
    by_rank: dict[int, list[Lane]] = {}
    for lane in due:
        if lane.owner in owners and rooms.get(lane.connection) != 0:
            by_rank.setdefault(lane.rank, []).append(lane)
    portions: dict[Lane, int] = {}
    for rank in sorted(by_rank):
        lesser = any(other > rank for other in by_rank)
        kept = int(free * _LESSER + draw) if lesser else 0
        free = kept + _fill(by_rank[rank], free - kept, allowance, rooms, portions)
    return portions


def _fill(
    lanes: Sequence[Lane],
    free: int,
    allowance: dict[str, int],
    rooms: dict[str, int | None],
    portions: dict[Lane, int],
) -> int:
    """Deal the free slots out evenly as long as anybody may take more; returns how many are left."""
    taking = list(lanes)
    while free and taking:
        each = max(1, free // len(taking))
        beside = Counter(lane.connection for lane in taking)
        asking, taking = taking, []
        for lane in asking:
            if not free:
                break
            space = rooms.get(lane.connection)
            fair = each if space is None else min(space, max(1, space // beside[lane.connection]))
            most = min(each, free, allowance[lane.owner], fair)
            if most <= 0:
                beside[lane.connection] -= 1
                continue
            taking.append(lane)
            portions[lane] = portions.get(lane, 0) + most
            allowance[lane.owner] -= most
            free -= most
            if space is not None:
                rooms[lane.connection] = space - most
    return free
