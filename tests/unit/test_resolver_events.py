"""What an observer of the resolver is told, and that it is told the same as is answered."""

from __future__ import annotations

import dns.name
import dns.rdatatype
import pytest

from mpcore.net.resolver import Security
from mpcore.net.resolver_events import Asked, DataJudged, Event, KeysJudged
from tests.unit.test_resolver_chain import FIRST, Signer, Zone, resolving

anyio_test = pytest.mark.anyio


async def _events(name: str, *signers: Signer, anchor: Signer) -> tuple[list[Event], Security]:
    events: list[Event] = []
    zone = Zone(list(signers), [signer.key for signer in signers])
    async with resolving([anchor], zone, observe=events.append) as (resolver, _):
        answer = await resolver.resolve(name, "A", check=False)
        told = len(events)
        await resolver.resolve(name, "A", check=False)
        assert len(events) == told, "what is remembered is not told again"
    return events, answer.security


@anyio_test
async def test_each_message_and_each_judgement_is_told() -> None:
    signer = Signer()
    events, security = await _events("www.example.", signer, anchor=signer)
    assert security is Security.SECURE
    assert [type(event) for event in events] == [Asked, Asked, KeysJudged, DataJudged]
    first, second, keys, data = events
    assert isinstance(first, Asked)
    assert isinstance(second, Asked)
    assert isinstance(keys, KeysJudged)
    assert isinstance(data, DataJudged)
    assert [first.rdtype, second.rdtype] == [dns.rdatatype.A, dns.rdatatype.DNSKEY]
    assert first.server[0] == FIRST
    assert first.message is not None
    assert (keys.zone, keys.keys, keys.problem) == (dns.name.from_text("example."), (signer.key,), None)
    assert data.verified is not None
    assert data.verified.signature.key_tag == signer.key.key_id()
    assert data.rrset.name == dns.name.from_text("www.example.")


@anyio_test
async def test_what_makes_an_answer_bogus_is_told() -> None:
    signer, anchor = Signer(), Signer()
    events, security = await _events("www.example.", signer, anchor=anchor)
    assert security is Security.BOGUS
    judged = [event for event in events if isinstance(event, KeysJudged)]
    assert judged
    assert "named by its DS or trust anchor" in str(judged[-1].problem)
    assert not [event for event in events if isinstance(event, DataJudged)]
