"""Who is in the picture: every form that a call accepts, resolved to one normal form."""

from .resolve import resolve_subjects
from .subject import ResolvedSubject, Subject

__all__ = ["ResolvedSubject", "Subject", "resolve_subjects"]
