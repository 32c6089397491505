"""`canvasbench tune`: tiles for a GPU, found by timing whole steps, written as its table."""

from bench.tune.search import Found, Trial, search

__all__ = ["Found", "Trial", "search"]
