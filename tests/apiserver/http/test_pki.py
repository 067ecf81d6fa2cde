"""Keys and certificates are made once, kept private, and renewed when due."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from sampan.apiserver import pki


def test_what_was_made_is_loaded_again(tmp_path: Path) -> None:
    first, second = pki.load(tmp_path), pki.load(tmp_path)
    assert first.ca_pem == second.ca_pem
    assert first.admin.certificate_pem == second.admin.certificate_pem
    assert first.join_token == second.join_token
    assert (tmp_path / "token").read_text().strip() == first.join_token


def test_the_token_pins_the_ca(tmp_path: Path) -> None:
    keys = pki.load(tmp_path)
    prefix, pinned, secret = keys.join_token.split(".")
    assert (prefix, pinned) == ("SMP1", pki.ca_hash(keys.ca.certificate))
    assert len(secret) == 64


def test_no_key_is_readable_by_others(tmp_path: Path) -> None:
    pki.load(tmp_path)
    for path in (tmp_path / "token", *(tmp_path / "pki").iterdir()):
        assert path.stat().st_mode & 0o077 == 0, path
    assert (tmp_path / "pki").stat().st_mode & 0o077 == 0


def serving(tmp_path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((tmp_path / "pki" / "serving.crt").read_bytes())


def test_the_serving_certificate_follows_the_addresses(tmp_path: Path) -> None:
    pki.load(tmp_path, addresses=["10.0.0.1"])
    first = serving(tmp_path)
    pki.load(tmp_path, addresses=["10.0.0.1"])
    assert serving(tmp_path) == first
    pki.load(tmp_path, addresses=["10.0.0.2"], names=["sea"])
    names = serving(tmp_path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "sea" in names.get_values_for_type(x509.DNSName)
    assert "10.0.0.2" in {str(a) for a in names.get_values_for_type(x509.IPAddress)}


def test_what_is_due_is_renewed_by_the_same_ca(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = pki.load(tmp_path)
    first = serving(tmp_path)
    monkeypatch.setattr(pki, "RENEW_BEFORE", timedelta(days=366))
    after = pki.load(tmp_path)
    assert serving(tmp_path) != first
    assert after.admin.certificate != before.admin.certificate
    assert after.ca.certificate == before.ca.certificate
    after.admin.certificate.verify_directly_issued_by(before.ca.certificate)
