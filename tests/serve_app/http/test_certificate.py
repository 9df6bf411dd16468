"""The certificate's files: what HAProxy could not use is refused with a sentence that says what to do."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deployments.keys import file as key_file
from serve_app.http import certificate
from serve_app.http.certificate import (
    CHAIN_ENV,
    KEY_ENV,
    Certificate,
    certificate_in,
    end_of,
    linked,
    require_usable,
)
from tests.certificates import Authority


@pytest.fixture
def good(tmp_path: Path) -> Certificate:
    return Authority(tmp_path).sign("pool.example")


def test_two_variables_name_it_or_none_does() -> None:
    assert certificate_in({}) is None
    assert certificate_in({CHAIN_ENV: "", KEY_ENV: ""}) is None
    found = certificate_in({CHAIN_ENV: "/etc/tls.crt", KEY_ENV: "/etc/tls.key"})
    assert found == (Path("/etc/tls.crt"), Path("/etc/tls.key"))


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({CHAIN_ENV: "/c"}, "FASTSERVE_TLS_KEY_FILE is missing"),
        ({KEY_ENV: "/k"}, "FASTSERVE_TLS_CERT_FILE is missing"),
        ({CHAIN_ENV: "c", KEY_ENV: "/k"}, "'c': write the absolute path"),
    ],
)
def test_one_without_the_other_or_a_path_of_one_machine_is_refused(
    environ: dict[str, str], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        certificate_in(environ)


def test_a_pair_is_usable_also_as_kubernetes_mounts_it(good: Certificate) -> None:
    require_usable(good)
    good.key.chmod(0o640)
    require_usable(good)
    both = good.chain.with_name("both.pem")
    both.touch(mode=0o600)
    both.write_text(good.chain.read_text() + good.key.read_text())
    require_usable(Certificate(both, both))


def test_a_key_that_others_may_read_is_refused_as_a_key_file_is(good: Certificate) -> None:
    good.key.chmod(0o644)
    with pytest.raises(ValueError, match=r"mode 644.*chmod 600"):
        require_usable(good)
    assert certificate.FORBIDDEN_MODE == key_file.FORBIDDEN_MODE


def test_what_is_missing_broken_or_of_another_is_refused(good: Certificate) -> None:
    other = Authority(good.chain.parent).sign("other.example")
    with pytest.raises(ValueError, match=r"No such file.*name a PEM file"):
        require_usable(good._replace(chain=Path("/nowhere/tls.crt")))
    with pytest.raises(ValueError, match=r"are not a pair.*KEY_VALUES_MISMATCH"):
        require_usable(good._replace(key=other.key))
    good.chain.write_text("no certificate")
    with pytest.raises(ValueError, match="are not a pair"):
        require_usable(good)


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(good: Certificate) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(good.key.read_bytes(), None)
    good.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ValueError, match="its key without a password"):
        require_usable(good)


def test_its_end_is_that_of_the_server_s_own(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    found = authority.sign("pool.example", days=5)
    found.chain.write_text(found.chain.read_text() + authority.file.read_text())
    assert abs(end_of(found) - datetime.now(UTC) - timedelta(days=5)) < timedelta(minutes=1)


def test_links_lead_to_the_files_themselves_and_are_made_anew(good: Certificate, tmp_path: Path) -> None:
    folder = tmp_path / "links"
    name = linked(good, folder)
    assert (name.resolve(), name.with_name("door.pem.key").resolve()) == tuple(one.resolve() for one in good)
    assert folder.stat().st_mode & 0o077 == 0
    other = Authority(tmp_path).sign("other.example")
    assert linked(other, folder).resolve() == other.chain.resolve()
    assert sorted(one.name for one in folder.iterdir()) == ["door.pem", "door.pem.key"]
