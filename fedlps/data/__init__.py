"""Data sets: reading, checking and downloading them, dividing them among clients, and gathering batches."""

from fedlps.data.catalog import CATALOG, directory, load
from fedlps.data.check import check
from fedlps.data.dataset import Dataset, Progress, Samples, statistics
from fedlps.data.download import get
from fedlps.data.split import ClientSamples, Split
from fedlps.data.store import SampleStore

__all__ = [
    "CATALOG",
    "ClientSamples",
    "Dataset",
    "Progress",
    "SampleStore",
    "Samples",
    "Split",
    "check",
    "directory",
    "get",
    "load",
    "statistics",
]
