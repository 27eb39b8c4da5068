"""Random damage to updates and their signatures: ``python -m tests.fuzz.fuzz_update SECONDS [SEED]``.

The rule is that of :mod:`tests.fuzz.fuzz_wire`: a decoder accepts, or raises a :exc:`~mpcore.errors.RemoteError`; what
it accepts it encodes again, and decodes to the same.  Octets that broke the rule are printed.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Callable

import dns.update

from mpcore.errors import RemoteError
from mpcore.signer.keys import Algorithm, dnskey_rdata, generate_private_key, raw_signer
from mpcore.zone import owners
from mpcore.zone.masterfile import read_master_text
from mpcore.zone.sig0 import Sig0Key, Sig0Keys, check_time, find_sig0, fingerprint, sign_sig0, strip_sig0, verify_sig0
from mpcore.zone.update import Requestor, UpdatePolicy, UpdateRule, apply_update, decode_update, encode_update
from tests.fuzz.fuzz_wire import damage

__all__ = ("TARGETS", "damage", "main", "seeds")

NOW = 1.8e9
SIGNER = owners.from_text("host.example.")
PRIVATE = generate_private_key(Algorithm.ED25519)
KEY = Sig0Key(SIGNER, dnskey_rdata(PRIVATE, 0x0200))
KEYS = Sig0Keys([KEY])
REQUESTOR = Requestor("sig0", SIGNER)
POLICY = UpdatePolicy([UpdateRule(REQUESTOR, "zonesub", types=frozenset({255}))])
VERSION = read_master_text("""$ORIGIN example.
@     300 IN SOA ns hostmaster 7 3600 600 86400 300
@     300 IN NS ns.example.net.
www   300 IN A 192.0.2.1
alias 300 IN CNAME www
""")


def _update(octets: bytes) -> None:
    update = decode_update(octets)
    result = apply_update(VERSION, update, POLICY, REQUESTOR)
    assert bool(result.changes) is (result.version is not VERSION)
    assert decode_update(encode_update(update, 1)) == update


def _signature(octets: bytes) -> None:
    signatures = find_sig0(octets)
    for signature in signatures:
        assert len(strip_sig0(octets, signature)) == signature.start
        fingerprint(octets, signature)
    if signatures:
        signature, key = KEYS.choose(signatures)
        check_time(signature, NOW)
        verify_sig0(octets, signature, key)


def _signed(octets: bytes) -> None:
    """An update whose damage is signed, so that it is read."""
    if len(octets) > 11:
        octets = sign_sig0(octets, KEY, raw_signer(PRIVATE), NOW)
    signature, key = KEYS.choose(find_sig0(octets))
    _update(verify_sig0(octets, signature, key))


def _key(octets: bytes) -> None:
    key = Sig0Key(SIGNER, octets)
    assert 0 <= key.tag < 65536


TARGETS: dict[str, Callable[[bytes], None]] = {
    "update": _update,
    "signature": _signature,
    "signed": _signed,
    "key": _key,
}
"""Name -> what a decoder of that layer must survive."""


def seeds() -> dict[str, list[bytes]]:
    """Sound octets for every target."""
    message = dns.update.UpdateMessage("example.", id=7)
    message.present("www")
    message.present("www", "A", "192.0.2.1")
    message.absent("new")
    message.add("new", 60, "MX", "10 mail.example.")
    message.add("@", 60, "NS", "ns.new.example.")
    message.delete("www", "A", "192.0.2.1")
    message.delete("www", "AAAA")
    message.delete("alias")
    small = dns.update.UpdateMessage("example.", id=7)
    small.add("new", 60, "A", "192.0.2.7")
    updates = [message.to_wire(), small.to_wire()]
    ecdsa, rsa = (generate_private_key(algorithm) for algorithm in (Algorithm.ECDSAP256SHA256, Algorithm.RSASHA256))
    return {
        "update": updates,
        "signature": [sign_sig0(octets, KEY, raw_signer(PRIVATE), NOW) for octets in updates] + updates,
        "signed": updates,
        "key": [KEY.rdata, dnskey_rdata(ecdsa, 0x0200), dnskey_rdata(rsa, 0x0200)],
    }


def main(seconds: float, seed: int) -> int:
    """Damage octets for so many *seconds*; the number of broken rules."""
    source = random.Random(seed)
    sound = seeds()
    runs: Counter[str] = Counter()
    broken = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name, target in TARGETS.items():
            octets = damage(source.choice(sound[name]), source)
            runs[name] += 1
            try:
                target(octets)
            except RemoteError:
                continue
            except Exception as error:
                broken += 1
                sys.stdout.write(f"{name}: {error!r}\n  {octets.hex()}\n")
    sys.stdout.write(f"seed {seed}: {dict(runs)}, {broken} broken\n")
    return broken


if __name__ == "__main__":
    sys.exit(bool(main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns())))
