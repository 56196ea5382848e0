"""Subjects: who is in the picture, in every form that a call accepts, brought to one normal form."""

from .resolve import resolve_subjects
from .subject import ResolvedSubject, Subject

__all__ = ["ResolvedSubject", "Subject", "resolve_subjects"]
