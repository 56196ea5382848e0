"""Measuring how well an adapter does what it is for."""

from .bootstrap import Interval, bootstrap_mean

__all__ = ["Interval", "bootstrap_mean"]
