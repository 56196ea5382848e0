"""Fixtures for tests that load from the Hub."""

from hub.fixtures import cache, folder, only_pipeline, pipeline, saved_adapter

__all__ = ["cache", "folder", "only_pipeline", "pipeline", "saved_adapter"]
