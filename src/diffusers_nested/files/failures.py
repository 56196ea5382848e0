"""Failed downloads, explained: what went wrong and what to do next."""

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

from ..errors import DownloadError

_LOG_IN = "pass token=..., or log in with `hf auth login`"


@contextmanager
def download_errors(location: str, filename: str, revision: str | None) -> Iterator[None]:
    """Turn errors during a download into ``DownloadError``.

    Args:
        location: The repository.
        filename: The requested file.
        revision: The requested branch, tag or commit.

    Raises:
        DownloadError: Caused by the original error.
    """
    try:
        yield
    except (HTTPError, OSError, ValueError) as error:
        raise DownloadError(_explain(error, location, filename, revision)) from error


def _explain(error: BaseException, location: str, filename: str, revision: str | None) -> str:
    if isinstance(error, GatedRepoError):
        return (
            f"Access to {location} is granted on request. Request it at {constants.ENDPOINT}/{location}; once it is "
            f"granted, {_LOG_IN} with that account."
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"There is no folder {location!r} here, and no repository of that name on the Hub that you can read. Check "
            f"the name; if the repository is private, {_LOG_IN}."
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{location} has no branch, tag or commit {revision!r}. Check revision=..., or leave it out for main."
    if isinstance(error, HfHubHTTPError):
        return _explain_status(error, location, filename)
    if isinstance(error, HFValidationError):
        return f"There is no folder {location!r} here, and it is not a repository id such as 'user/name' either."
    cause = error.__cause__
    if isinstance(error, LocalEntryNotFoundError) and (cause is None or isinstance(cause, OfflineModeIsEnabled)):
        return (
            f"{filename} of {location} has not been downloaded, and downloads are off (local_files_only or "
            "HF_HUB_OFFLINE). Load it once online with the same cache_dir, or give a folder that contains it."
        )
    if isinstance(cause, HfHubHTTPError):  # there was an answer
        return _explain(cause, location, filename, revision)
    if isinstance(error, LocalEntryNotFoundError):
        return (
            f"The Hub cannot be reached for {filename} of {location}, which has not been downloaded before ({cause}). "
            "Check the connection, or give a folder that contains it."
        )
    return f"Cannot download {filename} of {location}: {error}. Check the connection and the disk, then call again."


def _explain_status(error: HfHubHTTPError, location: str, filename: str) -> str:
    """What an HTTP status of the Hub means."""
    status = error.response.status_code
    answer = f"The Hub answered {status} for {filename} of {location}: {error.server_message or error}."
    if status in (401, 403):
        return f"{answer} You have no access: {_LOG_IN}, with a token that may read this repository."
    if status == 404:
        return f"{answer} Check the name and revision=...; if the repository is private, {_LOG_IN}."
    if status == 429:
        return f"{answer} There were too many requests: wait a few minutes. Logged-in users may make more: {_LOG_IN}."
    if status >= 500:
        return f"{answer} The Hub is out of order, not your connection: try again later."
    return f"{answer} Try again later."
