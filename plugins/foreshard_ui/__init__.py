"""The Foreshard page inside the Airflow UI. Nothing here is imported until somebody opens it."""
