"""``agent certificate``: what the agent shows by HTTPS, its TLSA records, and the roll-over of its key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from cockpit.commands.base import Command, Parameter, Values
from cockpit.commands.common import roll_over_lines
from cockpit.output import Lines, Result, Table
from cockpit.session import Session

if TYPE_CHECKING:
    from mpcore.control.models import Certificate

__all__ = ("COMMANDS",)


def _shown(certificate: Certificate, now: float) -> Result:
    rows = [[key.use, key.tlsa] for key in certificate.keys]
    lines = [
        f"Certificate of {certificate.identity} for HTTPS, port {certificate.port}",
        f"TLSA at: {certificate.owner}",
        *roll_over_lines(certificate, now, len("TLSA at: ")),
    ]
    return Result(certificate, [Lines(lines), Table(("USE", "TLSA"), rows)])


async def _show(session: Session, values: Values) -> Result:
    certificate = await session.client().certificate()
    if values["pem"]:
        return Result({"pem": certificate.pem}, [Lines(certificate.pem.splitlines())])
    return _shown(certificate, session.clock())


async def _act(session: Session, values: Values, action: Literal["prepare", "switch", "cancel"]) -> Result:
    from mpcore.control.models import CertificateAction, CertificateRequest

    session.check_writable()
    request = CertificateRequest(action=CertificateAction(action), force=bool(values.get("force")))
    return _shown(await session.client().certificate_action(request), session.clock())


async def _prepare(session: Session, values: Values) -> Result:
    return await _act(session, values, "prepare")


async def _switch(session: Session, values: Values) -> Result:
    return await _act(session, values, "switch")


async def _cancel(session: Session, values: Values) -> Result:
    return await _act(session, values, "cancel")


COMMANDS = (
    Command(
        ("agent", "certificate", "show"),
        "Show the agent's certificate for HTTPS, its TLSA records and how far a roll-over is",
        (Parameter("pem", "Write the certificate in PEM.", "flag", default=False),),
        details="Only where HTTPS is switched on. The certificate is only the key's envelope, made at each start.",
        examples=("agent certificate show", "agent certificate show --pem"),
        run=_show,
    ),
    Command(
        ("agent", "certificate", "prepare"),
        "Make the next key of the certificate and publish it beside the current one",
        details="Two TLSA records are published from now on. Wait until other agents have looked them up, then switch.",
        changes="the identity zone, and a key file beside the current one",
        examples=("agent certificate prepare",),
        run=_prepare,
    ),
    Command(
        ("agent", "certificate", "switch"),
        "Show the next key from now on, and forget the current one",
        (Parameter("force", "Although peers may not have looked yet.", "flag", default=False),),
        details="Refused until every peer has had time to look the key up; a peer that has not uses DNS meanwhile.",
        changes="the certificate that is shown, the identity zone, the key file",
        examples=("agent certificate switch",),
        run=_switch,
    ),
    Command(
        ("agent", "certificate", "cancel"),
        "Forget the next key instead of switching to it",
        changes="the identity zone; the file of the next key is deleted",
        examples=("agent certificate cancel",),
        run=_cancel,
    ),
)
