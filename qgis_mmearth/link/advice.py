"""From the output of a failed installation to one sentence of advice.

The classes are those that users of comparable plugins met most often.
"""

import re
from typing import NamedTuple


class Advice(NamedTuple):
    """What went wrong, and what to do about it."""

    code: str
    message: str
    advice: str


_RULES = [
    (
        r"No space left on device|Errno 28|WinError 112|not enough space",
        Advice("disk_full", "The disk is full.", "Free some space, or choose another folder."),
    ),
    (
        r"407 Proxy|Proxy Authentication Required|ProxyError|Cannot connect to proxy",
        Advice(
            "proxy",
            "The proxy refused the connection.",
            "Check Settings > Options > Network in QGIS, with user name and password.",
        ),
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLCertVerificationError|UnknownIssuer|SSLError",
        Advice(
            "certificate",
            "The connection is not trusted: a firewall of your organisation may inspect it.",
            "Ask for its certificate file and set it for pip (pip config set global.cert FILE).",
        ),
    ),
    (
        r"403 Client Error|403 Forbidden|401 Client Error",
        Advice(
            "index_refused",
            "The package index refused the download.",
            "Your organisation may require its own index (pip config set global.index-url URL).",
        ),
    ),
    (
        r"THESE PACKAGES DO NOT MATCH THE HASHES",
        Advice(
            "hash",
            "A downloaded file differs from the one that was tested.",
            "Try again; if it stays so, your package mirror alters files: tell its keeper.",
        ),
    ),
    (
        r"ensurepip is not available|No module named '?ensurepip|No module named '?venv",
        Advice(
            "venv_missing",
            "This Python cannot make environments.",
            "Install its venv package (Debian and Ubuntu: python3-venv), or choose another Python.",
        ),
    ),
    (
        r"WinError 1114|c10\.dll|VCRUNTIME140|WinError 126|WinError 127",
        Advice(
            "runtime_missing",
            "The Microsoft Visual C++ runtime is missing or too old.",
            "Install the latest Visual C++ Redistributable (x64) from Microsoft and try again.",
        ),
    ),
    (
        r"WinError 4551|WinError 1260|AppLocker|blocked by group policy",
        Advice(
            "policy",
            "A policy of your organisation forbids programs in this folder.",
            "Choose a folder that allows them, or use an existing Python, in the settings.",
        ),
    ),
    (
        r"WinError 225|contains a virus|WinError 5\b|Access is denied",
        Advice(
            "antivirus",
            "Access was denied, often by an antivirus program.",
            "Allow the folder of MMEarth in it, or choose another folder.",
        ),
    ),
    (
        r"WinError 32\b|being used by another process",
        Advice(
            "locked",
            "A file is in use by another program.",
            "Close other QGIS windows and try again.",
        ),
    ),
    (
        r"WinError 206|File name too long|Errno 36",
        Advice("path", "The path of the folder is too long.", "Choose a shorter folder."),
    ),
    (
        r"Permission denied|Errno 13|Read-only file system",
        Advice("permission", "The folder cannot be written to.", "Choose a folder that is yours."),
    ),
    (
        r"NewConnectionError|Name or service not known|getaddrinfo failed"
        r"|Temporary failure in name|Network is unreachable|ConnectTimeout|Connection refused"
        r"|Connection reset|Read timed out",
        Advice(
            "network",
            "The package index cannot be reached.",
            "Check the network and, behind a proxy, Settings > Options > Network. Without a "
            "network, install from a folder with downloaded packages: see the settings.",
        ),
    ),
    (
        r"is not a supported wheel|No matching distribution|Could not find a version",
        Advice(
            "no_wheel",
            "A package is not available for this system and Python.",
            "Use Python 3.10 to 3.13 on 64-bit Linux (glibc 2.28 or newer), Windows or macOS.",
        ),
    ),
]


def explain(output: str) -> Advice:
    """Return the advice for a program's output; a general one if nothing is known."""
    for pattern, advice in _RULES:
        if re.search(pattern, output, re.IGNORECASE):
            return advice
    return Advice(
        "install",
        "The installation failed for a reason that is not known.",
        "Try again; if it fails again, please report it with the installation log.",
    )


def scrub(text: str) -> str:
    """Remove user names and passwords from addresses, before text is shown or kept."""
    # Up to the last @ of a word: passwords may hold any character.
    return re.sub(r"(\w+://)\S*@", r"\1***@", text)
