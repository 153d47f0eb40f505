"""Files: the routing file, access logs and Parquet."""
