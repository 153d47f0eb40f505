"""Sessions and transactions: one session of pymongo's for each partition, and transactions on one partition."""
