"""Run pytest inside QGIS: tools/run_in_qgis.py tests/run_pytest.py FOLDER [OPTION ...]."""

import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent

if __name__ == "__main__":
    folder, *options = sys.argv[1:]
    sys.exit(
        int(
            pytest.main(
                [
                    "-c",
                    str(TESTS / "plugin" / "pytest.ini"),
                    "--rootdir",
                    str(TESTS),
                    folder,
                    *options,
                ]
            )
        )
    )
