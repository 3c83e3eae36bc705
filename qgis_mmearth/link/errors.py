"""Errors that the link to the backend reports to a person.

LinkError
├── InstallError            the backend's Python environment cannot be made or used
│   └── InstallCancelled
├── BackendStartError       the backend's process did not come up
└── BackendError            the backend answered with an error, or not at all
"""


class LinkError(Exception):
    """Base of all errors with a message fit for a person.

    Attributes:
        code: stable identifier.
        advice: what the reader can do about it, may be empty.
        details: text for a bug report, may be empty.
    """

    code = "link"

    def __init__(
        self, message: str, advice: str = "", *, details: str = "", code: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice
        self.details = details
        self.code = code or self.code

    def __str__(self) -> str:
        return f"{self.message} {self.advice}".strip()


class InstallError(LinkError):
    """Raised when the backend's environment cannot be made or used."""

    code = "environment"


class InstallCancelled(InstallError):
    """Raised when the user has cancelled the installation."""

    code = "cancelled"


class BackendStartError(LinkError):
    """Raised when the backend's process did not come up."""

    code = "start"


class BackendError(LinkError):
    """Raised when the backend answers with an error, or not at all."""

    code = "backend"
