# Airflow with the pipeline: the official image, our pinned requirements, dags/, plugins/ and include/.
ARG AIRFLOW_VERSION=3.3.2
FROM apache/airflow:${AIRFLOW_VERSION}-python3.11
COPY --chown=airflow:0 requirements.txt requirements.lock /opt/llm-release/
# The lock constrains; requirements.txt says what is wanted.
RUN pip install --no-cache-dir -r /opt/llm-release/requirements.txt -c /opt/llm-release/requirements.lock
COPY --chown=airflow:0 include /opt/llm-release/include
COPY --chown=airflow:0 config/airflow_local_settings.py /opt/airflow/config/
COPY --chown=airflow:0 plugins /opt/airflow/plugins
COPY --chown=airflow:0 dags /opt/airflow/dags
# dags/ looks for include/ beside it; without bytecode every task process would compile its imports again.
RUN ln -s /opt/llm-release/include /opt/airflow/include \
    && PYTHONDONTWRITEBYTECODE= python -m compileall -q /opt/airflow/plugins /home/airflow/.local/lib || true
ENV LLM_RELEASE_HOME=/opt/llm-release
