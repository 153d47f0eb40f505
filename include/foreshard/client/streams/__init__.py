"""Change streams: one stream of an app's changes over all partitions."""
