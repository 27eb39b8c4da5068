"""Configuration files: what is wrong, where, and how it is said."""

# ruff: noqa: E501 - the table of messages is one row for each

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from daemons.config import ROLES, ConfigErrors, Loaded, check_keys, load, private_directory
from mpcore.errors import ConfigError
from mpcore.node.settings import AgentSettings, CombinerSettings, NodeSettings, SignerSettings
from mpcore.signer.keys import Algorithm, dump_pem, generate_private_key
from mpcore.wire.seal import PrivateKey, write_private_key, write_public_key

AGENT = """\
identity: agent.alpha.example.
provider: alpha
state_dir: state
control_socket: run/agent.sock
listen:
  - address: 127.0.0.1
    port: 5300
publish:
  - {address: 127.0.0.1, port: 5300}
key_file: agent.jwk
tsig_keys_file: tsig.yaml
combiner:
  identity: combiner.alpha.example.
  address: 127.0.0.2
  public_key_file: peer.pub
signer:
  identity: signer.alpha.example.
  address: 127.0.0.3
  public_key_file: peer.pub
identity_zone:
  nameservers: [ns.alpha.example.]
  ksk_file: ksk.pem
  zsk_file: zsk.pem
resolver:
  trust_anchor_file: anchor
  root_hints: [127.0.0.9]
zones:
  - name: Example.COM
    primaries:
      - address: 127.0.0.4
        tsig_key: owner.
    secondaries:
      - address: 127.0.0.5
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a configuration with every file it names; returns its path."""
    own, peer = PrivateKey.generate(), PrivateKey.generate()
    for name, text, mode in (
        ("agent.jwk", write_private_key(own), 0o600),
        ("peer.pub", write_public_key(peer.public()), 0o644),
        ("tsig.yaml", "- {name: Owner, algorithm: hmac-sha256, secret: c2VjcmV0}\n", 0o600),
        ("ksk.pem", dump_pem(generate_private_key(Algorithm.ED25519)), 0o600),
        ("zsk.pem", dump_pem(generate_private_key(Algorithm.ED25519)), 0o600),
        ("anchor", "", 0o644),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)

    def write(text: str = AGENT) -> Path:
        path = tmp_path / "agent.yaml"
        path.write_text(text)
        return path

    return write


def errors_of(path: Path, settings: type[NodeSettings] = AgentSettings) -> list[str]:
    """The lines of the error, without the directory."""
    with pytest.raises(ConfigErrors) as caught:
        check_keys(load(path, settings))
    assert str(caught.value).splitlines() == [str(error) for error in caught.value.errors]
    return [re.sub(r"/\S*/", "", line) for line in str(caught.value).splitlines()]


def loaded(path: Path) -> Loaded[AgentSettings]:
    return load(path, AgentSettings)


def test_a_good_file(write: Callable[..., Path], tmp_path: Path) -> None:
    result = loaded(write())
    check_keys(result)
    settings = result.settings
    assert settings.identity == "agent.alpha.example."
    assert settings.zones[0].name == "example.com."
    assert settings.listen[0].port == 5300
    assert settings.zones[0].secondaries[0].port == 53


def test_relative_paths_are_relative_to_the_file(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write()
    monkeypatch.chdir(tmp_path.parent)
    settings = load(f"{tmp_path.name}/agent.yaml", AgentSettings).settings
    assert settings.state_dir == tmp_path / "state"
    assert settings.control_socket == tmp_path / "run" / "agent.sock"
    assert settings.identity_zone.ksk_file == tmp_path / "ksk.pem"
    assert settings.combiner.public_key_file == tmp_path / "peer.pub"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("provider: alpha\n", "", "agent.yaml:1: provider: is required"),
        ("provider: alpha\n", "provdier: alpha\nprovider: alpha\n", "agent.yaml:2: provdier: unknown key; did you mean provider?"),
        ("provider: alpha\n", "provider: alpha\nmin-refresh: 60\n", "agent.yaml:3: min-refresh: unknown key; did you mean min_refresh?"),
        ("provider: alpha\n", "provider: alpha\ncolour: red\n", "agent.yaml:3: colour: unknown key"),
        ("    port: 5300\n", "    prot: 5300\n", "agent.yaml:7: listen[0].prot: unknown key; did you mean port?"),
        ("  address: 127.0.0.2\n", "  address: 127.0.0.2\n  provider: x\n", "agent.yaml:15: combiner.provider: unknown key here; it belongs at the top of the file"),
        ("provider: alpha\n", "provider: alpha\nprovider: beta\n", "agent.yaml:3: provider: given twice, first on line 2"),
        ("      - address: 127.0.0.4\n", "      - address: 127.0.0.4\n        address: 127.0.0.5\n", "agent.yaml:31: zones[0].primaries[0].address: given twice, first on line 30"),
        ("    port: 5300\n", "    port: 0\n", "agent.yaml:7: listen[0].port: must be at least 1, not 0"),
        ("    port: 5300\n", "    port: 65536\n", "agent.yaml:7: listen[0].port: must be at most 65535, not 65536"),
        ("    port: 5300\n", "    port: domain\n", "agent.yaml:7: listen[0].port: expected a whole number, not 'domain'"),
        ("    port: 5300\n", "    port: 53.5\n", "agent.yaml:7: listen[0].port: expected a whole number, not 53.5"),
        ("    port: 5300\n", "    port: yes\n", "agent.yaml:7: listen[0].port: expected a value, not a yes or no"),
        ("provider: alpha\n", "provider: 1.5\n", "agent.yaml:2: provider: expected a text, not 1.5 (write it in quotes)"),
        ("provider: alpha\n", "provider: no\n", "agent.yaml:2: provider: expected a text, not no (write it in quotes)"),
        ("provider: alpha\n", "provider: a.b\n", "agent.yaml:2: provider: 'a.b' is not a provider label (letters, digits, hyphen; 63 at most)"),
        ("provider: alpha\n", "provider:\n", "agent.yaml:2: provider: expected a text, not nothing"),
        ("identity: agent.alpha.example.\n", "identity: a..b\n", "agent.yaml:1: identity: 'a..b' is not a domain name: A DNS label is empty."),
        ("listen:\n  - address: 127.0.0.1\n    port: 5300\n", "listen: []\n", "agent.yaml:5: listen: needs at least one entry"),
        ("listen:\n  - address: 127.0.0.1\n    port: 5300\n", "listen: 127.0.0.1\n", "agent.yaml:5: listen: expected a list, not '127.0.0.1'"),
        ("listen:\n  - address: 127.0.0.1\n    port: 5300\n", "listen:\n  - 127.0.0.1\n", "agent.yaml:6: listen[0]: expected keys and values, not '127.0.0.1'"),
        ("  - address: 127.0.0.1\n", "  - address: localhost\n", "agent.yaml:6: listen[0].address: 'localhost' is not an IP address"),
        ("root_hints: [127.0.0.9]", "root_hints: [a.root]", "agent.yaml:26: resolver.root_hints[0]: 'a.root' is not an IP address"),
        ("  root_hints: [127.0.0.9]\n", "", "agent.yaml:24: resolver: needs root_hints or forwarders"),
        ("  - {address: 127.0.0.1, port: 5300}\n", "  - {address: 127.0.0.1, port: 5300}\n  - {address: 127.0.0.2, port: 5301}\n", "agent.yaml:8: publish: all addresses must have one port, not 5300, 5301"),
        ("provider: alpha\n", "provider: alpha\nmin_refresh: 1000\nmax_refresh: 100\n", "agent.yaml:3: min_refresh: is longer than max_refresh (100)"),
        ("  identity: signer.alpha.example.", "  identity: AGENT.alpha.example", "agent.yaml:17: signer.identity: is our own identity"),
        ("        tsig_key: owner.\n", "        tsig_key: other.\n", "agent.yaml:31: zones[0].primaries[0].tsig_key: other. is not in tsig.yaml"),
        ("tsig_keys_file: tsig.yaml\n", "", "agent.yaml:30: zones[0].primaries[0].tsig_key: owner. cannot be looked up without tsig_keys_file"),
        ("key_file: agent.jwk\n", "key_file: missing.jwk\n", "agent.yaml:10: key_file: missing.jwk: no such file"),
        ("key_file: agent.jwk\n", "key_file: .\n", None),
        ("key_file: agent.jwk\n", "key_file: ksk.pem\n", "agent.yaml:10: key_file: ksk.pem does not hold a private JWK (EC, P-256)"),
        ("key_file: agent.jwk\n", "key_file: peer.pub\n", None),
        ("  address: 127.0.0.2\n  public_key_file: peer.pub\n", "  address: 127.0.0.2\n  public_key_file: agent.jwk\n", "agent.yaml:15: combiner.public_key_file: agent.jwk holds the private key, which nobody but its owner may have"),
        ("  ksk_file: ksk.pem\n", "  ksk_file: agent.jwk\n", "agent.yaml:22: identity_zone.ksk_file: agent.jwk cannot be used: the private key is not PKCS#8 PEM"),
        ("control_socket: run/agent.sock\n", "control_socket: /" + "x" * 120 + "\n", None),
        ("provider: alpha\n", "provider: alpha\nrole: signer\n", "agent.yaml:3: role: the file is for role signer, this program is role agent"),
        ("provider: alpha\n", "provider: [\n", "agent.yaml:4: not YAML: did not find expected ',' or ']'"),
        ("provider: alpha\n", "provider: \t'x\n", None),
        ("provider: alpha\n", "provider: &a alpha\nfoo: *a\n", None),
        ("provider: alpha\n", "<<: {provider: alpha}\n", "agent.yaml:2: not YAML: a key is one word; merge keys and complex keys are not supported"),
        ("provider: alpha\n", "provider: !!python/object:os.system alpha\n", None),
        ("provider: alpha\n", "provider: alpha\n---\nprovider: beta\n", "agent.yaml:3: a second document"),
    ],
)  # fmt: skip
def test_one_error(write: Callable[..., Path], old: str, new: str, expected: str | None) -> None:
    assert AGENT.count(old) == 1
    lines = errors_of(write(AGENT.replace(old, new)))
    if expected is not None:
        assert lines == [expected]
    assert all(re.match(r"agent\.yaml:\d+: ", line) for line in lines)


def test_all_errors_are_reported_together_in_the_order_of_the_file(write: Callable[..., Path]) -> None:
    text = AGENT.replace("    port: 5300\n", "    port: 70000\n").replace("provider: alpha", "provider: a b")
    text = text + "beat_intervall: 5\nbeat_interval: 0.5\n"
    assert errors_of(write(text)) == [
        "agent.yaml:2: provider: 'a b' is not a provider label (letters, digits, hyphen; 63 at most)",
        "agent.yaml:7: listen[0].port: must be at most 65535, not 70000",
        "agent.yaml:34: beat_intervall: unknown key; did you mean beat_interval?",
        "agent.yaml:35: beat_interval: must be at least 1, not 0.5",
    ]


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"", "agent.yaml: the file is empty"),
        (b"# nothing\n", "agent.yaml: the file is empty"),
        (b"- a\n", "agent.yaml:1: expected keys and values"),
        (b"a: b\nc: \xff\n", "agent.yaml:2: not UTF-8"),
        (b"a: \x00\n", None),
        (b"a: " + b"[" * 100_000, "agent.yaml:1: not YAML: nested too deeply"),
        (b"a: &x [b]\nc: *x\n", None),
        (b"x" * (4 * 1024 * 1024 + 1), "agent.yaml: more than 4194304 octets"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, octets: bytes, expected: str | None) -> None:
    path = tmp_path / "agent.yaml"
    path.write_bytes(octets)
    lines = errors_of(path)
    if expected is not None:
        assert lines == [expected]


def test_a_missing_file(tmp_path: Path) -> None:
    assert errors_of(tmp_path / "agent.yaml") == ["agent.yaml: no such file"]
    assert errors_of(tmp_path) == [f"{tmp_path.name}: is a directory, not a file"]


@pytest.mark.parametrize("name", ["agent.jwk", "tsig.yaml", "ksk.pem", "zsk.pem"])
def test_secrets_must_be_closed_to_others(write: Callable[..., Path], tmp_path: Path, name: str) -> None:
    path = write()
    (tmp_path / name).chmod(0o640)
    (line,) = errors_of(path)
    assert re.fullmatch(rf"agent\.yaml:\d+: [a-z_.]+: {name} has mode 0640 and holds a secret: chmod 600 {name}", line)


def test_no_secret_is_quoted(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write()
    (tmp_path / "tsig.yaml").write_text("- {name: owner, secret: [c2VjcmV0LXRzaWc=]}\n")
    (tmp_path / "agent.jwk").write_text('{"kty": "EC", "d": "c2VjcmV0LWp3aw"}')
    with pytest.raises(ConfigErrors) as caught:
        load(path, AgentSettings)
    assert "c2Vj" not in str(caught.value)
    (tmp_path / "tsig.yaml").write_text("- {name: owner, algorithm: hmac-sha256, secret: c2VjcmV0}\n")
    with pytest.raises(ConfigErrors) as caught:
        check_keys(load(path, AgentSettings))
    assert "c2Vj" not in str(caught.value)


def test_the_settings_in_force_can_be_shown_with_their_lines(write: Callable[..., Path], tmp_path: Path) -> None:
    shown = loaded(write()).show()
    rows = dict(re.split(r"\s+# ", line, maxsplit=1) for line in shown.splitlines())
    assert rows["identity = agent.alpha.example."] == "agent.yaml:1"
    assert rows["zones[0].name = example.com."] == "agent.yaml:28"
    assert rows["zones[0].secondaries[0].port = 53"] == "default"
    assert rows["beat_interval = 15"] == "default"
    assert rows[f"state_dir = {tmp_path}/state"] == "agent.yaml:3"


COMBINER = """\
identity: combiner.alpha.example.
provider: alpha
state_dir: state
control_socket: s
listen: [{address: "::1"}]
key_file: agent.jwk
agents:
  - {identity: agent.alpha.example., address: 127.0.0.1, public_key_file: peer.pub}
zones:
  - {name: a.example., primaries: [{address: 127.0.0.1}]}
"""


HTTPS = """\
https:
  listen: [{address: 127.0.0.1, port: 8443}]
  publish: [{address: 127.0.0.1, port: 8443}]
  key_file: https.jwk
"""


def test_https_is_off_unless_it_is_there(write: Callable[..., Path], tmp_path: Path) -> None:
    assert loaded(write()).settings.https is None
    (tmp_path / "https.jwk").write_text(write_private_key(PrivateKey.generate()))
    (tmp_path / "https.jwk").chmod(0o600)
    result = loaded(write(AGENT + HTTPS))
    check_keys(result)
    assert result.settings.https is not None
    assert (result.settings.https.prefer, result.settings.https.fall_back) == ("https", True)
    assert result.settings.https.key_file == tmp_path / "https.jwk"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "key_file: https.jwk",
            "key_file: agent.jwk",
            ["key_file: is the key for messages; a certificate needs one of"],
        ),
        ("key_file: https.jwk", "key_file: gone.jwk", ["key_file: gone.jwk: no such file"]),
        ("key_file: https.jwk", "key_file: peer.pub", ["key_file: peer.pub has mode 0644 and holds a secret"]),
        ("key_file: https.jwk", "key_file: ksk.pem", ["key_file: ksk.pem does not hold a private JWK (EC, P-256)"]),
        ("listen: [{address: 127.0.0.1, port: 8443}]", "listen: []", ["listen: needs at least one entry"]),
        ("port: 8443}]\n  publish", "port: 5300}]\n  publish", ["listen[0]: DNS listens there already"]),
        (
            "publish: [{address: 127.0.0.1, port: 8443}]",
            "publish: [{address: 127.0.0.1, port: 1}, {address: 127.0.0.2, port: 2}]",
            ["publish: all addresses must have one port, not 1, 2"],
        ),
        (
            "publish: [{address: 127.0.0.1",
            "publish: [{address: localhost",
            ["publish[0].address: 'localhost' is not an"],
        ),
        (
            "key_file: https.jwk",
            "key_file: https.jwk\n  prefer: quic",
            ["prefer: expected 'https' or 'dns', not 'quic'"],
        ),
        (
            "key_file: https.jwk",
            "key_file: https.jwk\n  prefer: dns\n  fall_back: no",
            ["fall_back: is needed where DNS is preferred: HTTPS would never be used"],
        ),
        ("key_file: https.jwk", "key_file: https.jwk\n  max_connections: 0", ["max_connections: must be at least 1"]),
        ("key_file: https.jwk", "key_file: https.jwk\n  certificate: x", ["certificate: unknown key"]),
    ],
)
def test_errors_about_https(
    write: Callable[..., Path], tmp_path: Path, old: str, new: str, expected: list[str]
) -> None:
    (tmp_path / "https.jwk").write_text(write_private_key(PrivateKey.generate()))
    (tmp_path / "https.jwk").chmod(0o600)
    assert old in HTTPS
    errors = errors_of(write(AGENT + HTTPS.replace(old, new)))
    found = [line.partition(": https.")[2] for line in errors]
    assert len(found) == len(expected), errors
    assert all(text.startswith(words) for text, words in zip(found, expected, strict=True)), errors


def test_a_combiner_and_a_signer(write: Callable[..., Path]) -> None:
    path = write(COMBINER)
    assert load(path, CombinerSettings).settings.zones[0].name == "a.example."
    assert load(path, SignerSettings).settings.algorithm == "ECDSAP256SHA256"


def test_serial_policies_and_journals(write: Callable[..., Path]) -> None:
    settings = load(write(COMBINER), CombinerSettings).settings
    assert (settings.serial_policy, settings.zones[0].serial_policy) == ("persist", None)
    zone = "    serial_policy: dateserial\n    journal_octets: 0\n    journal_changes: 3\n"
    text = COMBINER.replace(
        "  - {name: a.example., primaries: [{address: 127.0.0.1}]}\n",
        f"  - name: a.example.\n    primaries: [{{address: 127.0.0.1}}]\n{zone}",
    )
    loaded = load(write(text + "serial_policy: unixtime\n"), SignerSettings).settings
    assert loaded.serial_policy == "unixtime"
    assert (loaded.zones[0].serial_policy, loaded.zones[0].journal_octets, loaded.zones[0].journal_changes) == (
        "dateserial",
        0,
        3,
    )
    assert errors_of(write(text.replace("dateserial", "date")), CombinerSettings) == [
        "agent.yaml:12: zones[0].serial_policy: expected 'keep', 'unixtime', 'persist' or 'dateserial', not 'date'"
    ]
    assert errors_of(write(text.replace("journal_octets: 0", "journal_octets: -1")), CombinerSettings) == [
        "agent.yaml:13: zones[0].journal_octets: must be at least 0, not -1"
    ]
    assert errors_of(write(AGENT + "    serial_policy: keep\n")) == [
        "agent.yaml:34: zones[0].serial_policy: belongs to combiner and signer: an agent publishes no zone"
    ]


def test_repetitions_are_refused(write: Callable[..., Path]) -> None:
    zone = "  - {name: A.Example, primaries: [{address: 127.0.0.1}]}\n"
    agent = "  - {identity: AGENT.alpha.example., address: 127.0.0.1, public_key_file: peer.pub}\n"
    text = (COMBINER + zone).replace("zones:\n", agent + "zones:\n")
    assert errors_of(write(text), CombinerSettings) == [
        "agent.yaml:9: agents[1].identity: agent.alpha.example. is also agents[0]",
        "agent.yaml:12: zones[1].name: a.example. is also zones[0]",
    ]


def test_a_signer_refreshes_before_signatures_end(write: Callable[..., Path]) -> None:
    text = COMBINER + "signature_lifetime: 86400\nalgorithm: DSA\n"
    assert errors_of(write(text), SignerSettings) == [
        "agent.yaml:12: algorithm: expected 'ECDSAP256SHA256', 'ED25519' or 'RSASHA256', not 'DSA'"
    ]
    text = COMBINER + "signature_lifetime: 86400\nsignature_refresh: 86400\n"
    assert errors_of(write(text), SignerSettings) == [
        "agent.yaml:12: signature_refresh: must be shorter than signature_lifetime (86400)"
    ]


def test_every_role_has_settings() -> None:
    assert {role: settings.model_fields["role"].default for role, settings in ROLES.items()} == {
        "agent": "agent",
        "combiner": "combiner",
        "signer": "signer",
    }


def test_private_directories(tmp_path: Path) -> None:
    made = tmp_path / "a" / "b"
    private_directory(made)
    assert made.stat().st_mode & 0o777 == 0o700
    private_directory(made)
    made.chmod(0o750)
    with pytest.raises(ConfigError, match="mode 0750 and must have 0700"):
        private_directory(made)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be created"):
        private_directory(tmp_path / "file")
