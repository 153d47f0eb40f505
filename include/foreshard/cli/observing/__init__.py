"""Commands of ``foreshard observe``."""
