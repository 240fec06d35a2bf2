"""Loading and reloading the certificate and its key."""

import logging
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.errors import SettingsError
from service.server.tls import Tls, load_tls, renewed_certificate
from service.settings import Settings
from tests.certificates import Pair, make_pair, needs_openssl

pytestmark = needs_openssl

DAY = 86_400
ROOT = Path(__file__).parents[2]


def days_left(tls: Tls) -> float:
    assert tls.value.expires is not None
    return (tls.value.expires - time.time()) / DAY


def replace(old: Path, new: Path) -> None:
    """Replace a file by a copy of another one atomically, as programs that renew certificates do."""
    copy = old.with_suffix(".new")
    shutil.copy(new, copy)
    copy.rename(old)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return make_pair(tmp_path / "now")


@pytest.fixture
def renewed(tmp_path: Path) -> Pair:
    return make_pair(tmp_path / "renewed", days=90)


def test_unusable_files_are_refused_in_one_line(pair: Pair, renewed: Pair, tmp_path: Path) -> None:
    encrypted = make_pair(tmp_path / "encrypted", "-passout", "pass:secret")
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("no PEM")
    cases: list[tuple[dict[str, Path], str]] = [
        ({"tls_cert_file": pair.certificate}, "belong together: set both or neither"),
        ({"tls_key_file": pair.key}, "belong together: set both or neither"),
        ({**pair.settings, "tls_cert_file": tmp_path / "no"}, "EDGEWISE_TLS_CERT_FILE can't be used: "),
        ({**pair.settings, "tls_key_file": tmp_path}, "EDGEWISE_TLS_KEY_FILE can't be used: "),
        ({**pair.settings, "tls_key_file": renewed.key}, "(key values mismatch)"),
        ({**pair.settings, "tls_cert_file": nonsense}, "are not a certificate and its key, both in PEM"),
        (encrypted.settings, "EDGEWISE_TLS_KEY_FILE is encrypted"),
    ]
    for settings, message in cases:
        with pytest.raises(SettingsError) as caught:
            load_tls(Settings(**settings))
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_expiry_of_the_certificate_is_known(pair: Pair) -> None:
    assert days_left(renewed_certificate(pair.certificate, pair.key)) == pytest.approx(2, abs=0.01)


def test_the_expiry_is_known_if_the_system_allows_only_tls_1_2(pair: Pair, tmp_path: Path) -> None:
    configuration = tmp_path / "openssl.cnf"
    configuration.write_text(
        "openssl_conf = all\n[all]\nssl_conf = tls\n[tls]\nsystem_default = policy\n"
        "[policy]\nMaxProtocol = TLSv1.2\n"
    )
    script = (
        "import sys; from pathlib import Path; from service.server.tls import renewed_certificate;"
        "print(renewed_certificate(*map(Path, sys.argv[1:])).value.expires)"
    )
    printed = subprocess.run(  # noqa: S603
        [sys.executable, "-c", script, pair.certificate, pair.key],
        env=os.environ | {"OPENSSL_CONF": str(configuration)},
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert float(printed) == renewed_certificate(pair.certificate, pair.key).value.expires


def test_the_expiry_is_unknown_if_ordinary_clients_can_not_use_the_curve(tmp_path: Path) -> None:
    pair = make_pair(tmp_path / "unusual", curve="secp256k1")
    assert renewed_certificate(pair.certificate, pair.key).value.expires is None


def test_unchanged_files_are_not_reloaded(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    tls = renewed_certificate(pair.certificate, pair.key)
    context = tls.value.context
    with caplog.at_level(logging.INFO, "edgewise"):
        tls.renew()
    assert tls.value.context is context
    assert not caplog.records


def test_a_renewed_pair_is_loaded(pair: Pair, renewed: Pair, caplog: pytest.LogCaptureFixture) -> None:
    tls = renewed_certificate(pair.certificate, pair.key)
    replace(pair.certificate, renewed.certificate)
    replace(pair.key, renewed.key)
    with caplog.at_level(logging.INFO, "edgewise"):
        tls.renew()
        tls.renew()
    assert days_left(tls) == pytest.approx(90, abs=0.01)
    (record,) = caplog.records
    assert record.message == "the new certificate is used"


def test_a_pair_that_is_overwritten_in_place_is_loaded_too(pair: Pair, renewed: Pair) -> None:
    tls = renewed_certificate(pair.certificate, pair.key)
    pair.certificate.write_bytes(renewed.certificate.read_bytes())
    pair.key.write_bytes(renewed.key.read_bytes())
    tls.renew()
    assert days_left(tls) == pytest.approx(90, abs=0.01)


@pytest.mark.parametrize("fault", ["certificate only", "cut off", "no certificate", "encrypted key"])
def test_an_unusable_pair_is_reported_once_and_the_previous_one_kept(
    pair: Pair, renewed: Pair, tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    tls = renewed_certificate(pair.certificate, pair.key)
    context, expires = tls.value.context, tls.value.expires
    match fault:
        case "certificate only":
            replace(pair.certificate, renewed.certificate)
            reason = "(key values mismatch)"
        case "cut off":
            pair.certificate.write_bytes(renewed.certificate.read_bytes()[:200])
            reason = "are not a certificate and its key, both in PEM"
        case "no certificate":
            pair.certificate.unlink()
            reason = "No such file"
        case _:
            replace(pair.key, make_pair(tmp_path / "encrypted", "-passout", "pass:secret").key)
            reason = "EDGEWISE_TLS_KEY_FILE is encrypted"
    with caplog.at_level(logging.INFO, "edgewise"):
        tls.renew()
        tls.renew()
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.message == "the new certificate can't be used; the previous one is kept"
    assert reason in record.fields["reason"]
    assert (tls.value.context, tls.value.expires) == (context, expires)
    # A usable pair is loaded again.
    replace(pair.certificate, renewed.certificate)
    replace(pair.key, renewed.key)
    tls.renew()
    assert days_left(tls) == pytest.approx(90, abs=0.01)


def test_files_with_changed_permissions_are_reloaded(pair: Pair) -> None:
    tls = renewed_certificate(pair.certificate, pair.key)
    context = tls.value.context
    # Root can read the key anyway; a service of another user may be able to only now.
    pair.key.chmod(0o640)
    tls.renew()
    assert tls.value.context is not context
