"""What goes wrong between here and the Hub, said with what to do next."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # of the HTTP library that this version of huggingface_hub uses
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ..errors import AdapterLoadError

_LOG_IN = "pass token=..., or log in with `hf auth login`"


@contextmanager
def download_errors(location: str, filename: str, revision: str | None) -> Iterator[None]:
    """Turn the errors of a download into ``AdapterLoadError``.

    Args:
        location: The repository that is read.
        filename: The file that is asked for.
        revision: The branch, tag or commit that is asked for.

    Raises:
        AdapterLoadError: From the original error.
    """
    try:
        yield
    except (HTTPError, OSError, ValueError) as error:
        raise AdapterLoadError(_explain(error, location, filename, revision)) from error


def _explain(error: Exception, location: str, filename: str, revision: str | None) -> str:
    if isinstance(error, GatedRepoError):
        return (
            f"Access to {location} is granted on request. Ask for it on {constants.ENDPOINT}/{location}; once it is "
            f"granted, {_LOG_IN} of that account."
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"There is no folder {location!r} here, and no repository of this name on the Hub that you may read. Check "
            f"the name; if the repository is private, {_LOG_IN}."
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{location} has no branch, tag or commit {revision!r}. Check revision=..., or leave it out for main."
    if isinstance(error, LocalEntryNotFoundError):
        return _explain_absence(error, location, filename)
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        remedy = f"Check the token: {_LOG_IN}." if status in (401, 403) else "Try again later."
        return f"The Hub answered {status} for {filename} of {location}: {error.server_message or error}. {remedy}"
    if isinstance(error, HFValidationError):
        return f"There is no folder {location!r} here, and it cannot be a repository's id either, such as 'user/name'."
    return f"Cannot get {filename} of {location}: {error}. Check the connection and the disk, then call again."


def _explain_absence(error: LocalEntryNotFoundError, location: str, filename: str) -> str:
    """Why a file that is not among the downloads could not be downloaded."""
    absent = f"{filename} of {location} is not among the downloaded files"
    cause = error.__cause__
    if cause is None or isinstance(cause, OfflineModeIsEnabled):
        return (
            f"{absent}, and downloads are off (local_files_only or HF_HUB_OFFLINE). Load it once with a connection "
            "and the same cache_dir, or name a folder that holds it."
        )
    return f"{absent}, and the Hub cannot be reached ({cause}). Check the connection, or name a folder that holds it."
