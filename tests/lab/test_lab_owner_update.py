"""The zone's owner changes it with nsupdate while the lab runs."""

from __future__ import annotations

import subprocess

import pytest

from mpcore.zone.masterfile import read_master_file
from tests.lab.laboratory import Lab, ask, eventually

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab"), pytest.mark.timeout(120)]


def _nsupdate(lab: Lab, *lines: str, key: bool = True) -> subprocess.CompletedProcess[str]:
    script = f"server {lab.layout.owner} {lab.port}\nzone {lab.zone}\n" + "".join(f"{line}\n" for line in lines)
    credentials = ["-k", str(lab.layout.owner_key_file)] if key else []
    return subprocess.run(
        ["nsupdate", *credentials], input=script + "send\n", capture_output=True, text=True, timeout=20
    )


def _owner_serial(lab: Lab) -> int:
    return int(ask(lab.layout.owner, lab.port, lab.zone, "SOA").answer[0][0].serial)


def test_the_owner_adds_and_removes_a_record(lab: Lab) -> None:
    """What nsupdate adds is answered, signed, by every signer, and outlives the primary; a stranger changes nothing."""
    record = f"by-update.{lab.zone} 60 IN TXT owner"
    before = _owner_serial(lab)
    assert _nsupdate(lab, f"update delete www.{lab.zone}", key=False).stderr.strip() == "update failed: REFUSED"
    added = _nsupdate(lab, f"prereq nxdomain by-update.{lab.zone}", f"update add {record}")
    assert (added.returncode, added.stderr) == (0, "")
    assert _owner_serial(lab) == before + 1
    lab.assert_served_everywhere(record.replace("owner", '"owner"'))
    assert read_master_file(lab.layout.zone_file).serial == before + 1
    lab.kill("world")
    lab.start("world")
    eventually(lambda: _owner_serial(lab) == before + 1, "the primary with the zone as it was")
    again = _nsupdate(lab, f"prereq nxdomain by-update.{lab.zone}", f"update add {record}")
    assert again.stderr.strip() == "update failed: YXDOMAIN"
    removed = _nsupdate(lab, f"update delete by-update.{lab.zone}")
    assert (removed.returncode, removed.stderr) == (0, "")
    for address in lab.signers:
        eventually(
            lambda address=address: ask(address, lab.port, f"by-update.{lab.zone}", "TXT").rcode() == 3,  # type: ignore[misc]
            f"the name gone at {address}",
        )
