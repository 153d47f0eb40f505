"""The access log and the replication log in Kafka."""
