"""The keys of a zone: first keys, states on signals, what is stored and what is reported."""

from __future__ import annotations

import random
from typing import Any

import pytest

from mpcore.actions import Action, Store
from mpcore.errors import ConfigError, ConflictError, NotFoundError
from mpcore.signer.inventory import contributed, inventory
from mpcore.signer.keys import KeyState, SigningKey, generate_signing_key
from mpcore.signer.plan import STORE_KIND, KeyMachine, KeysChanged, SignalIgnored
from mpcore.wire.messages import KeyInventoryEntry
from mpcore.zone.owners import from_text
from mpcore.zone.rrset import RRset, parse_rdata, parse_record
from mpcore.zone.version import ZoneVersion

NOW = 1_800_000_000.0
ORIGIN = from_text("example.")
DNSKEY = 48


def _zone(*foreign: bytes) -> ZoneVersion:
    soa = RRset(6, 60, (parse_rdata(6, "a. b. 1 2 3 4 5"),))
    version = ZoneVersion.build(ORIGIN, [(ORIGIN, soa)])
    return version.update([(ORIGIN, DNSKEY, RRset.make(DNSKEY, 60, foreign))]) if foreign else version


def _machine(**options: Any) -> KeyMachine:
    return KeyMachine("example.", algorithm=13, **options)


def _stored(actions: list[Action]) -> dict[str, dict[str, Any]]:
    return {
        action.key: dict(action.value or {})
        for action in actions
        if isinstance(action, Store) and action.kind == STORE_KIND
    }


def _loaded(*foreign: bytes, shared: bool = True, **options: Any) -> KeyMachine:
    machine = _machine(**options)
    machine.zone_loaded(_zone(*foreign), sign=True, shared=shared, now=NOW)
    return machine


def _new_key(machine: KeyMachine, *, ksk: bool = False) -> SigningKey:
    before = {key.key_tag for key in machine.keys}
    machine.add_key(ksk, NOW + 1)
    return next(key for key in machine.keys if key.key_tag not in before)


def _state(machine: KeyMachine, tag: int) -> KeyState:
    return next(key.state for key in machine.keys if key.key_tag == tag)


# -- first keys ----------------------------------------------------------------------------------------------------


def test_first_load_makes_one_active_key_of_each_kind() -> None:
    machine = _machine()
    actions = machine.zone_loaded(_zone(), sign=True, shared=True, now=NOW)
    assert sorted((key.flags, key.state.value) for key in machine.keys) == [(256, "active"), (257, "active")]
    assert len({key.key_tag for key in machine.keys}) == 2
    assert len(_stored(actions)) == 2
    assert actions[-1] == KeysChanged("example.", distribute=True)
    assert machine.zone_loaded(_zone(), sign=True, shared=True, now=NOW + 1) == []


def test_no_keys_for_a_zone_that_we_do_not_sign() -> None:
    machine = _machine()
    assert machine.zone_loaded(_zone(), sign=False, shared=True, now=NOW) == []
    assert machine.keys == ()
    assert machine.inventory() == []
    with pytest.raises(ConflictError):
        machine.add_key(False, NOW)


def test_keys_stay_when_the_zone_stops_being_signed_here() -> None:
    machine = _loaded()
    keys = machine.keys
    assert machine.zone_loaded(_zone(), sign=False, shared=False, now=NOW) == [KeysChanged("example.", True)]
    assert (machine.keys, machine.signs, machine.inventory()) == (keys, False, [])
    machine.zone_loaded(_zone(), sign=True, shared=True, now=NOW)
    assert machine.keys == keys


def test_restart_brings_the_keys_back() -> None:
    first = _machine(passphrase=b"secret")
    stored = _stored(first.zone_loaded(_zone(), sign=True, shared=True, now=NOW))
    assert all("ENCRYPTED" in value["pem"] for value in stored.values())
    other = _stored(KeyMachine("other.", algorithm=15).zone_loaded(_other(), sign=True, shared=True, now=NOW))
    second = _machine(passphrase=b"secret")
    second.restore({**stored, **other})
    assert second.keys == first.keys
    assert second.zone_loaded(_zone(), sign=True, shared=True, now=NOW) == [KeysChanged("example.", True)]
    assert second.keys == first.keys
    with pytest.raises(ConfigError):
        _machine(passphrase=b"wrong").restore(stored)


def _other() -> ZoneVersion:
    origin = from_text("other.")
    return ZoneVersion.build(origin, [(origin, RRset(6, 60, (parse_rdata(6, "a. b. 1 2 3 4 5"),)))])


def test_new_keys_avoid_every_tag_that_is_taken() -> None:
    seen: list[set[int]] = []

    def generate(*arguments: Any, avoid: set[int], **options: Any) -> SigningKey:
        seen.append(set(avoid))
        return generate_signing_key(*arguments, avoid=avoid, **options)

    foreign = generate_signing_key("example.", 13, True, NOW)
    machine = _loaded(foreign.dnskey, generate=generate)
    key = _new_key(machine)
    machine.withdraw(key.key_tag, NOW)
    machine.signal("propagated", key.key_tag, 0, NOW)
    assert _state(machine, key.key_tag) is KeyState.REMOVED
    _new_key(machine)
    assert foreign.key_tag in seen[0]
    assert seen[-1] >= {foreign.key_tag, key.key_tag}


def test_seeded_machines_make_the_same_keys() -> None:
    def machine() -> KeyMachine:
        source = random.Random(11)

        def generate(*arguments: Any, **options: Any) -> SigningKey:
            return generate_signing_key(*arguments, random=source, **options)

        return _loaded(generate=generate)

    assert machine().keys == machine().keys


# -- foreign keys --------------------------------------------------------------------------------------------------


def test_foreign_keys_follow_the_zone() -> None:
    theirs = generate_signing_key("example.", 13, True, NOW)
    machine = _loaded()
    own = machine.keys[0].dnskey
    actions = machine.zone_loaded(_zone(theirs.dnskey, own), sign=True, shared=True, now=NOW)
    assert actions == [KeysChanged("example.", distribute=False)]
    assert machine.foreign == (theirs.dnskey,)
    assert machine.zone_loaded(_zone(theirs.dnskey), sign=True, shared=True, now=NOW) == []
    # No other signer any more: DNSKEY records in the zone are nobody's.
    machine.zone_loaded(_zone(theirs.dnskey), sign=True, shared=False, now=NOW)
    assert machine.foreign == ()


# -- states --------------------------------------------------------------------------------------------------------


def test_a_new_key_is_published_once_all_have_it() -> None:
    machine = _loaded()
    key = _new_key(machine)
    assert key.state is KeyState.MPDIST
    actions = machine.signal("propagated", key.key_tag, 0, NOW + 10)
    assert actions[1:] == [KeysChanged("example.", distribute=False)]
    value = _stored(actions)[key.store_key]
    assert (value["state"], value["changed_at"], value["created_at"]) == ("published", NOW + 10, NOW + 1)
    assert value["pem"] == key.pem


def test_without_other_signers_nobody_has_to_confirm() -> None:
    machine = _loaded(shared=False)
    key = _new_key(machine)
    assert key.state is KeyState.PUBLISHED
    machine.withdraw(key.key_tag, NOW)
    assert _state(machine, key.key_tag) is KeyState.REMOVED


def test_a_withdrawn_key_is_removed_once_all_are_without_it() -> None:
    machine = _loaded()
    key = _new_key(machine)
    actions = machine.withdraw(key.key_tag, NOW + 5)
    assert _stored(actions)[key.store_key]["state"] == "mpremove"
    assert actions[-1] == KeysChanged("example.", distribute=True)
    actions = machine.signal("propagated", key.key_tag, 13, NOW + 6)
    value = _stored(actions)[key.store_key]
    assert (value["state"], value["pem"]) == ("removed", None)


def test_a_refusal_is_kept_and_changes_no_state() -> None:
    machine = _loaded()
    key = _new_key(machine)
    actions = machine.signal("rejected", key.key_tag, 0, NOW, "key tag is taken")
    assert [type(action) for action in actions] == [Store]
    assert _stored(actions)[key.store_key]["rejected"] == "key tag is taken"
    assert _state(machine, key.key_tag) is KeyState.MPDIST
    machine.signal("propagated", key.key_tag, 0, NOW)
    assert next(each for each in machine.keys if each.key_tag == key.key_tag).rejected == ""


@pytest.mark.parametrize("signal", ["propagated", "rejected", "removed", "published", "retired", "", "?"])
def test_signals_for_active_keys_change_nothing(signal: str) -> None:
    """At first contact an agent reports all its keys as propagated, the active ones too."""
    machine = _loaded()
    keys = machine.keys
    for key in keys:
        (action,) = machine.signal(signal, key.key_tag, 0, NOW)
        assert isinstance(action, SignalIgnored)
        assert action.key_tag == key.key_tag
    assert machine.keys == keys


def test_signals_for_unknown_keys_change_nothing() -> None:
    machine = _loaded()
    key = _new_key(machine)
    unknown = next(tag for tag in range(1, 9) if tag not in {each.key_tag for each in machine.keys})
    for tag, algorithm in ((unknown, 0), (key.key_tag, 15)):
        (action,) = machine.signal("propagated", tag, algorithm, NOW)
        assert isinstance(action, SignalIgnored)
    assert _state(machine, key.key_tag) is KeyState.MPDIST


def test_what_cannot_be_withdrawn() -> None:
    machine = _loaded()
    for key in machine.keys:
        with pytest.raises(ConflictError, match="active"):
            machine.withdraw(key.key_tag, NOW)
    key = _new_key(machine)
    machine.withdraw(key.key_tag, NOW)
    with pytest.raises(ConflictError, match="already"):
        machine.withdraw(key.key_tag, NOW)
    unknown = next(tag for tag in range(1, 9) if tag not in {each.key_tag for each in machine.keys})
    with pytest.raises(NotFoundError):
        machine.withdraw(unknown, NOW)


# -- inventory -----------------------------------------------------------------------------------------------------


def test_inventory_lists_every_key_by_tag_with_its_record() -> None:
    theirs = generate_signing_key("example.", 13, True, NOW)
    machine = _loaded(theirs.dnskey)
    gone, coming = _new_key(machine), _new_key(machine, ksk=True)
    machine.withdraw(gone.key_tag, NOW)
    machine.signal("propagated", gone.key_tag, 0, NOW)
    entries = machine.inventory()
    assert [entry.key_tag for entry in entries] == sorted(entry.key_tag for entry in entries)
    states = {entry.key_tag: entry.state for entry in entries}
    assert sorted(states.values()) == ["active", "active", "foreign", "mpdist", "removed"]
    assert (states[theirs.key_tag], states[gone.key_tag], states[coming.key_tag]) == ("foreign", "removed", "mpdist")
    by_tag = {key.key_tag: key.dnskey for key in machine.keys} | {theirs.key_tag: theirs.dnskey}
    for entry in entries:
        owner, rdtype, ttl, rdata = parse_record(entry.keyrr)
        assert (owner, rdtype, ttl, rdata) == (ORIGIN, DNSKEY, 3600, by_tag[entry.key_tag])
        assert (entry.flags, entry.algorithm) == (int.from_bytes(rdata[:2]), 13)
        head = f"example.\t3600\tIN\tDNSKEY\t{entry.flags} 3 13 "
        assert entry.keyrr.startswith(head)
        assert " " not in entry.keyrr[len(head) :]


def test_contribution_is_what_the_other_providers_need() -> None:
    keys = [generate_signing_key("example.", 15, False, NOW, state=state) for state in KeyState]
    sent = {entry.state for entry in contributed(inventory("example.", keys))}
    assert sent == {"mpdist", "published", "ds-published", "standby", "active", "retired"}
    assert contributed([KeyInventoryEntry(key_tag=1, state="active", keyrr="")]) == []
