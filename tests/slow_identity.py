"""An independent, slow version of every stitching policy: sets and loops, one event at a time."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import combinations, permutations
from typing import Any

import pandas as pd

from journeykit.config import Identity
from journeykit.durations import limit, seconds

Node = tuple[str, str]


class Sets:
    """Disjoint sets that are merged by walking over all members."""

    def __init__(self) -> None:
        self.of: dict[Node, set[Node]] = {}

    def add(self, node: Node) -> None:
        self.of.setdefault(node, {node})

    def join(self, one: Node, other: Node) -> None:
        self.add(one)
        self.add(other)
        merged = self.of[one] | self.of[other]
        for node in merged:
            self.of[node] = merged

    def key(self, node: Node) -> Node:
        return min(self.of[node])


def people(rows: pd.DataFrame, plan: Identity, declared: pd.DataFrame | None = None) -> list[Any]:
    """Return a label for each row; equal labels are one person."""
    events = rows.to_dict("records")
    nodes = [
        [(name, event[f"id_{name}"]) for name in plan.identifiers if isinstance(event[f"id_{name}"], str)]
        for event in events
    ]
    devices = set(plan.devices)
    if plan.policy == "none":
        return [next((n for n in own if n[0] in devices), own[0]) for own in nodes]
    known: dict[frozenset[Node], int] = {}
    for event, own in zip(events, nodes, strict=True):
        for pair in combinations(own, 2):
            at = event["timestamp"].value // 1000
            known[frozenset(pair)] = min(known.get(frozenset(pair), at), at)
    splits = set()
    rules: dict[str, set[frozenset[Node]]] = defaultdict(set)
    for link in [] if declared is None else declared.to_dict("records"):
        pair = frozenset({(link["left_name"], link["left_token"]), (link["right_name"], link["right_token"])})
        if link["rule"] == "split by hand":
            splits.add(pair)
        else:
            known[pair] = 0
            rules[link["rule"]].add(pair)
    by_hand = rules["merged by hand"]
    every = {node for own in nodes for node in own} | {node for pair in known for node in pair}
    if plan.policy == "graph":
        sets = Sets()
        for node in every:
            sets.add(node)
        for pair in known:
            sets.join(*pair)
        return [sets.key(own[0]) for own in nodes]
    strict = plan.policy == "graph_strict"
    sets, shared = _personal(events, nodes, every, known, splits, by_hand, plan)
    owners: dict[Node, set[Node]] = defaultdict(set)
    given: dict[Node, set[Node]] = defaultdict(set)
    for pair in known:
        device = [node for node in pair if node[0] in devices]
        person = [node for node in pair if node[0] not in devices]
        if device and person and person[0] not in shared:
            owners[device[0]].add(sets.key(person[0]))
            if pair in by_hand:
                given[device[0]].add(sets.key(person[0]))
    owners.update(given)
    shared = shared | {device for device, found in owners.items() if len(found) > 1}
    shared |= {node for pair in splits for node in pair if node[0] in devices}
    whole = Sets()
    for node in every - shared:
        whole.add(node)
        if node[0] not in devices:
            whole.join(node, sets.key(node))
    for device, found in owners.items():
        for person in found if device not in shared else ():
            whole.join(device, person)
    chain = [pair for pair in known if all(node[0] in devices for node in pair) and not pair & shared]
    if not strict:
        chain = [pair for pair in chain if pair in by_hand | rules["merged in the source"]]
    if chain:
        trial = Sets()
        for node, members in whole.of.items():
            for member in members:
                trial.join(node, member)
        for pair in chain:
            trial.join(*pair)
        for pair in chain:
            inside = {sets.key(node) for node in trial.of[next(iter(pair))] if node[0] not in devices}
            inside = {key for key in inside if any(key in found for d, found in owners.items() if d not in shared)}
            if len(inside) <= 1:
                whole.join(*pair)
    apart = set()
    for pair in splits:
        for one, other in permutations(pair, 2):
            if other not in shared and other in whole.of:
                apart.add((one, whole.key(other)))
    return _in_time(events, nodes, whole, shared, apart, plan)


def _plain(every: set[Node], known: dict[frozenset[Node], int], devices: set[str]) -> tuple[Sets, set[Node]]:
    sets = Sets()
    for node in every:
        sets.add(node)
    for pair in known:
        if not any(node[0] in devices for node in pair):
            sets.join(*pair)
    return sets, set()


def _personal(
    events: list[dict[str, Any]],
    nodes: list[list[Node]],
    every: set[Node],
    known: dict[frozenset[Node], int],
    splits: set[frozenset[Node]],
    by_hand: set[frozenset[Node]],
    plan: Identity,
) -> tuple[Sets, set[Node]]:
    """The levels of caps: identifiers join in order of trust, as long as nobody breaks a cap or a split."""
    devices = set(plan.devices)
    caps = {name: limit(text) for name, text in plan.caps.items()} if plan.policy == "graph_strict" else {}
    if not caps and not splits:
        return _plain(every, known, devices)
    first: dict[Node, int] = {}
    for event, own in zip(events, nodes, strict=True):
        for node in own:
            first[node] = min(first.get(node, 2**62), event["timestamp"].value // 1000)
    unseen = every - set(first)
    for pair, at in known.items():
        for node in pair & unseen:
            first[node] = min(first.get(node, 2**62), at)
    rank = {name: place for place, name in enumerate(plan.identifiers)}
    unit = {node: node for node in every}
    merged = Sets()
    same = [pair for pair in known if len({node[0] for node in pair}) == 1]
    for pair in same:
        merged.join(*pair)
    if any(pair <= members for pair in splits for members in merged.of.values()):
        parted = {node for node, members in merged.of.items() if any(pair <= members for pair in splits)}
        merged = Sets()
        for pair in same:
            if not pair & parted or pair in by_hand:
                merged.join(*pair)
    for node in merged.of:
        unit[node] = merged.key(node)
    since: dict[Node, int] = {}
    for node, own_unit in unit.items():
        since[own_unit] = min(since.get(own_unit, 2**62), first.get(node, 2**62))
    apart = {frozenset(unit[node] for node in pair if node in unit) for pair in splits}
    group: dict[Node, set[Node]] = {}
    shared: set[Node] = set()

    def broken(members: set[Node], level: int) -> bool:
        if any(len(pair) == 2 and pair <= members for pair in apart):
            return True
        for name, (most, period) in caps.items():
            if rank[name] >= level:
                continue
            times = [since[node] for node in members if node[0] == name]
            turns = Counter((at - min(times)) // (period * 1_000_000) if period else 0 for at in times)
            if any(n > most for n in turns.values()):
                return True
        return False

    for level, name in enumerate(plan.identifiers):
        if name in devices:
            continue
        mine = {own for node, own in unit.items() if node[0] == name}
        met: dict[Node, dict[frozenset[Node], int]] = {own: {} for own in mine}
        firm: dict[Node, set[frozenset[Node]]] = {own: set() for own in mine}
        for pair, at in known.items():
            one, other = sorted(pair, key=lambda node: rank[node[0]])
            if other[0] == name and rank[one[0]] < level and unit[one] in group:
                key = frozenset(group[unit[one]])
                found = met[unit[other]]
                found[key] = min(found.get(key, 2**62), at)
                if pair in by_hand:
                    firm[unit[other]].add(key)
        for own, found in met.items():
            for key in [key for key in found if any(frozenset({own, member}) in apart for member in key)]:
                del found[key]
                firm[own].discard(key)
        before = {own: dict(found) for own, found in met.items()}
        if name in caps:
            most, period = caps[name]
            by_group: dict[frozenset[Node], list[tuple[bool, int, str, Node]]] = defaultdict(list)
            for own, found in met.items():
                for key, at in found.items():
                    by_group[key].append((key not in firm[own], at or since[own], own[1], own))
            over = set()
            for asked in by_group.values():
                taken: dict[int, int] = defaultdict(int)
                start = min(at for _, at, _, _ in asked)
                for _, at, _, own in sorted(asked):
                    turn = (at - start) // (period * 1_000_000) if period else 0
                    taken[turn] += 1
                    if taken[turn] > most:
                        over.add(own)
            met = {own: found for own, found in met.items() if own not in over}
        else:
            over = set()
        alone = {own for own, found in met.items() if len(found) > 1 and broken(set().union(*found), level)}
        met = {own: found for own, found in met.items() if own not in alone}
        joining = {own: set(found) for own, found in met.items() if len(found) > 1}
        clusters: list[tuple[set[Node], set[frozenset[Node]]]] = []
        for own, keys in joining.items():
            touching = [cluster for cluster in clusters if cluster[1] & keys]
            clusters = [cluster for cluster in clusters if not cluster[1] & keys]
            clusters.append(({own}.union(*(c[0] for c in touching)), keys.union(*(c[1] for c in touching))))
        together: set[Node] = set()
        for owns, keys in clusters:
            if broken(set().union(*keys), level):
                together |= owns
        refused = over | alone | together
        shared |= {own for own in refused if not firm[own]}
        met = {own: found for own, found in before.items() if own not in refused}
        met |= {own: {key: before[own][key] for key in firm[own]} for own in refused if firm[own]}
        for own, found in met.items():
            whole = {own}
            for key in found:
                whole |= group[next(iter(key))]
            for node in whole:
                group[node] = whole
        for own in mine - shared:
            group.setdefault(own, {own})
    sets = Sets()
    for node, own in unit.items():
        if node[0] not in devices and own not in shared:
            for member in group[own]:
                sets.join(node, member)
    return sets, {node for node, own in unit.items() if own in shared}


def _in_time(
    events: list[dict[str, Any]],
    nodes: list[list[Node]],
    sets: Sets,
    shared: set[Node],
    apart: set[tuple[Node, Node]],
    plan: Identity,
) -> list[Any]:
    order = sorted(
        range(len(events)), key=lambda i: tuple(events[i][c] for c in ("timestamp", "source", "source_row", "event_id"))
    )
    own = [next((sets.key(node) for node in found if node not in shared), None) for found in nodes]
    gap = pd.Timedelta(seconds=seconds(plan.shared_gap))
    out: list[Any] = list(own)
    for i in order:
        if out[i] is not None:
            continue
        node = nodes[i][0]
        on_it = [j for j in order if node in nodes[j]]
        visit, visits = 0, {}
        for last, j in zip([None, *on_it], on_it, strict=False):
            if last is None or events[j]["timestamp"] - events[last]["timestamp"] > gap:
                visit += 1
            visits[j] = visit
        if plan.policy == "last_login":
            visits = dict.fromkeys(on_it, 0)
        mates = [j for j in on_it if visits[j] == visits[i] and own[j] is not None and (node, own[j]) not in apart]
        before = [j for j in mates if on_it.index(j) < on_it.index(i)]
        after = [j for j in mates if on_it.index(j) > on_it.index(i)]
        at = events[i]["timestamp"]
        nearer_after = before and after and events[after[0]]["timestamp"] - at < at - events[before[-1]]["timestamp"]
        if plan.policy == "last_login":
            nearer_after = False
        if before and not nearer_after:
            out[i] = own[before[-1]]
        elif after:
            out[i] = own[after[0]]
        else:
            out[i] = (node, visits[i])
    return out
