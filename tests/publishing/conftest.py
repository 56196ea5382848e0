"""The pipeline, folders and caches that tests of the Hub share."""

from hub.fixtures import cache, folder, only_pipeline, pipeline, saved_adapter

__all__ = ["cache", "folder", "only_pipeline", "pipeline", "saved_adapter"]
