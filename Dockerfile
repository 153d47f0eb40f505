# One image for Airflow and for Foreshard's own processes (sidecar, applier, load reporter, exporter).
FROM apache/airflow:slim-3.3.2-python3.11

# Exactly the locked set; --no-deps, because the lock names every package.
COPY deploy/requirements.lock /tmp/requirements.lock
RUN pip install --no-cache-dir --no-deps --require-hashes -r /tmp/requirements.lock

COPY --chown=airflow:0 pyproject.toml README.md LICENSE /opt/foreshard/
COPY --chown=airflow:0 include /opt/foreshard/include
RUN pip install --no-cache-dir --no-deps /opt/foreshard \
    && python -c "import foreshard.wiring, airflow.providers.celery.executors.celery_executor, airflow.providers.fab.auth_manager"

COPY --chown=airflow:0 dags /opt/airflow/dags
COPY --chown=airflow:0 plugins /opt/airflow/plugins

USER root
RUN install -d -o airflow -g 0 -m 775 /var/lib/foreshard
USER airflow
ENV FORESHARD_DATA_DIR=/var/lib/foreshard
