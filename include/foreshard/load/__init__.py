"""Demand, copies and the load that they make: the shared ground of score and plan."""

from foreshard.load.demand import (
    SECONDS_PER_HOUR,
    BoolArray,
    IntArray,
    KeyDemand,
    LoadProfile,
    OriginShares,
    ServingRule,
    key_profile,
    load_prediction_scores,
    only_copies,
    row_entries,
    sum_by_partition,
    summing,
    whole_key_load,
)
from foreshard.load.serving import CopyShares, copy_rows, partition_load, serve_copies, shadow_copies, share_reads

__all__ = [
    "SECONDS_PER_HOUR",
    "BoolArray",
    "CopyShares",
    "IntArray",
    "KeyDemand",
    "LoadProfile",
    "OriginShares",
    "ServingRule",
    "copy_rows",
    "key_profile",
    "load_prediction_scores",
    "only_copies",
    "partition_load",
    "row_entries",
    "serve_copies",
    "shadow_copies",
    "share_reads",
    "sum_by_partition",
    "summing",
    "whole_key_load",
]
