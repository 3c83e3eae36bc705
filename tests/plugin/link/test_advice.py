"""Real outputs of failed installations, and the advice that each gets."""

import pytest

from qgis_mmearth.link.advice import explain, scrub

OUTPUTS = [
    ("disk_full", "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"),
    ("disk_full", "OSError: [WinError 112] There is not enough space on the disk: 'C:\\\\Users'"),
    ("proxy", "Retrying after connection broken by 'ProxyError('Cannot connect to proxy.', "
              "OSError('Tunnel connection failed: 407 Proxy Authentication Required'))'"),
    ("certificate", "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate "
                    "verify failed: self-signed certificate in certificate chain (_ssl.c:1006)'))"),
    ("index_refused", "ERROR: HTTP error 403 while getting torch: 403 Client Error: Forbidden for url"),
    ("hash", "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."),
    ("venv_missing", "The virtual environment was not created successfully because ensurepip is not "
                     "available.  On Debian/Ubuntu systems, you need to install the python3-venv package"),
    ("runtime_missing", "OSError: [WinError 1114] A dynamic link library (DLL) initialization routine "
                        "failed. Error loading \"C:\\\\env\\\\torch\\\\lib\\\\c10.dll\""),
    ("policy", "[WinError 4551] Eine Richtlinie für die Anwendungssteuerung hat diese Datei blockiert"),
    ("antivirus", "[WinError 225] Operation did not complete successfully because the file contains a virus"),
    ("antivirus", "PermissionError: [WinError 5] Access is denied: 'C:\\\\env\\\\python.exe'"),
    ("locked", "[WinError 32] The process cannot access the file because it is being used by another process"),
    ("path", "OSError: [Errno 36] File name too long: 'torch/include/...'"),
    ("permission", "PermissionError: [Errno 13] Permission denied: '/opt/mmearth'"),
    ("network", "NewConnectionError('<HTTPSConnection>: Failed to establish a new connection: [Errno -2] "
                "Name or service not known')"),
    ("no_wheel", "ERROR: No matching distribution found for torch==2.13.0+cpu"),
    ("install", "Segmentation fault"),
    ("install", "Downloading virustotal-1-py3-none-manylinux2014_x86_64.whl\nERROR: Exception: odd"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "output"), OUTPUTS)
def test_advice(code, output):
    found = explain(output)
    assert found.code == code
    assert found.message.endswith(".") and found.advice.endswith(".")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://ann:secret@proxy.example:8080/", "https://***@proxy.example:8080/"),
        ("http://token@index.example/simple", "http://***@index.example/simple"),
        ("http://ann:p@ss@proxy:3128", "http://***@proxy:3128"),
        ("http://ann:p/w@proxy:3128", "http://***@proxy:3128"),
        ("https://index.example/simple", "https://index.example/simple"),
    ],
)
def test_scrub(text, clean):
    assert scrub(text) == clean
