"""The embedded stack: mongod, Kafka and Airflow on one machine."""
