"""Fetches and unpacks the source distribution of the SDK; a second time it is already there."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

PACKAGE = "azure-servicebus"
VERSION = "7.15.0"
FILES = ("async_tests/test_queues_async.py", "test_queues.py", "async_tests/test_sb_client_async.py")


class SourcesError(Exception):
    """The distribution could not be had; the message says why."""


def fetch(cache: Path, within: float = 300) -> Path:
    """The folder with the SDK's tests. Raises SourcesError."""
    folder = cache / f"{PACKAGE}-{VERSION}"
    tests = folder / "tests"
    if not all((tests / name).is_file() for name in FILES):
        folder.mkdir(parents=True, exist_ok=True)
        (cache / ".gitignore").write_text("*\n", encoding="utf-8")  # and so ruff and git pass it over
        _unpack(_download(folder, within), folder)
    missing = [name for name in FILES if not (tests / name).is_file()]
    if missing:
        raise SourcesError(f"the source distribution of {PACKAGE} {VERSION} lacks {', '.join(missing)}")
    return tests


def _download(folder: Path, within: float) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary", ":all:", "--dest", str(folder), f"{PACKAGE}=={VERSION}"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=within)
    except subprocess.CalledProcessError as error:
        last = (error.stderr or error.stdout).strip().splitlines()[-1:]
        raise SourcesError(f"pip could not download {PACKAGE} {VERSION}: {' '.join(last)}") from error
    except subprocess.TimeoutExpired as error:
        raise SourcesError(f"pip did not download {PACKAGE} {VERSION} within {within:.0f} s") from error
    return next(folder.glob("*.tar.gz"))


def _unpack(archive: Path, folder: Path) -> None:
    """Only the tests, without the folder of the version above them."""
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            _root, _, inside = member.name.partition("/")
            if inside.startswith("tests/") and member.isfile():
                member.name = inside
                tar.extract(member, folder, filter="data")
