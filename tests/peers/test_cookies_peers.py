"""Server cookies beside those of BIND and NSD with the same secret: each accepts what the other has made (RFC 9018)."""

from __future__ import annotations

import dns.edns
import dns.message
import dns.query
import dns.rcode
import pytest

from mpcore.net.cookies import CookieStanding, ServerCookies
from tests.peers.servers import Bind, NameServer, Nsd, Zone

pytestmark = pytest.mark.peer

SECRET = bytes(range(16, 32))
CLIENT = b"clientck"
TEXT = "$TTL 60\n@ SOA ns1 host 1 2 3 4 5\n@ NS ns1\nns1 A 192.0.2.1\n"


class BindWithCookies(Bind):
    """named with our secret; it refuses clients without a valid cookie."""

    def configure(self) -> list[str]:
        command = super().configure()
        path = self.directory / "conf"
        options = f'cookie-algorithm siphash24; cookie-secret "{SECRET.hex()}"; answer-cookie yes; '
        options += "require-server-cookie yes; "
        path.write_text(path.read_text().replace("options { ", "options { " + options, 1))
        return command


class NsdWithCookies(Nsd):
    """nsd with our secret."""

    def configure(self) -> list[str]:
        command = super().configure()
        path = self.directory / "conf"
        options = f"server:\n  answer-cookie: yes\n  cookie-secret: {SECRET.hex()}\n"
        path.write_text(path.read_text().replace("server:\n", options, 1))
        return command


def exchange(server: NameServer, cookie: bytes) -> tuple[dns.message.Message, bytes]:
    query = dns.message.make_query("ns1.example.", "A", use_edns=0, options=[dns.edns.GenericOption(10, cookie)])
    message = dns.query.udp(query, server.address, 5, port=server.port, source="127.0.0.1")
    (option,) = (option for option in message.options if option.otype == 10)
    return message, bytes(option.to_wire() or b"")


@pytest.mark.parametrize("kind", [BindWithCookies, NsdWithCookies])
def test_cookies_are_exchanged_between_servers(kind: type[NameServer]) -> None:
    ours = ServerCookies([SECRET])
    with kind([Zone("example.", text=TEXT)], key=None) as server:
        first, theirs = exchange(server, CLIENT)
        assert (first.rcode() == dns.rcode.BADCOOKIE) is (kind is BindWithCookies)
        assert theirs[:8] == CLIENT
        now = int.from_bytes(theirs[12:16], "big")
        query = dns.message.make_query("ns1.example.", "A", use_edns=0, options=[dns.edns.GenericOption(10, theirs)])
        supplied = ours.judge(query.to_wire(), "127.0.0.1", now)
        assert supplied.standing is CookieStanding.VALID
        assert supplied.option[4:] == theirs
        query = dns.message.make_query("ns1.example.", "A", use_edns=0, options=[dns.edns.GenericOption(10, CLIENT)])
        made = ours.judge(query.to_wire(), "127.0.0.1", now - 600).option[4:]
        message, returned = exchange(server, made)
        assert message.answer  # BIND refuses what it does not take for valid
        assert returned[:8] == CLIENT
        accepted = ours.judge(
            dns.message.make_query("a.", "A", use_edns=0, options=[dns.edns.GenericOption(10, returned)]).to_wire(),
            "127.0.0.1",
            now,
        )
        assert accepted.standing is CookieStanding.VALID
        if kind is NsdWithCookies:
            assert returned == made  # NSD keeps a cookie that it takes for valid
