"""The Foreshard page in the Airflow UI. It is imported when the page is first opened."""
