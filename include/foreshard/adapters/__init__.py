"""The only rooms that do I/O: MongoDB, Kafka, files, metrics."""
