# Four stages; none needs BuildKit:
# - build: the locked packages of the service
# - train: fits MODEL and bakes its artifact
# - runtime: serves the artifact at /srv/artifact
# - serve: runtime with the artifact of train (the default)
ARG PYTHON_IMAGE=python:3.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
# serving has no pandas: use it if the contract does not have "input": "frame". serving-tracing adds tracing.
ARG REQUIREMENTS=serving-frames
COPY requirements/${REQUIREMENTS}.txt /tmp/requirements.txt
# Compile the modules here, because the container's file system is read-only. Remove the tests of the libraries, which
# are a fifth of their files.
RUN python -m venv --without-pip /opt/bakehouse \
    && pip --python /opt/bakehouse/bin/python --disable-pip-version-check --no-cache-dir \
        install --quiet --no-compile --require-hashes -r /tmp/requirements.txt \
    && find /opt/bakehouse/lib -type d -name tests -prune -exec rm -r {} + \
    && python -m compileall -q --invalidation-mode unchecked-hash /opt/bakehouse/lib
COPY service /srv/service
RUN python -m compileall -q --invalidation-mode unchecked-hash /srv/service

FROM ${PYTHON_IMAGE} AS train
# training-engines adds the converters of more engines to the comparison. Then also set REQUIREMENTS=serving-engines.
ARG TRAINING=training
COPY requirements/${TRAINING}.txt /tmp/requirements.txt
RUN pip --disable-pip-version-check --no-cache-dir install --quiet --root-user-action ignore --require-hashes \
        -r /tmp/requirements.txt
WORKDIR /srv
COPY . .
ARG MODEL=training/models/house_prices.py
ARG MODEL_VERSION=
ARG REVISION=
ARG SOURCE_DATE_EPOCH
RUN python -m training bake "${MODEL}" --output artifact --model-version "${MODEL_VERSION}" --source-commit "${REVISION}"
USER 65532:65532
ENTRYPOINT ["python", "-m", "training"]

FROM ${PYTHON_IMAGE} AS runtime
RUN rm -r /usr/local/lib/python3.*/site-packages/pip* /usr/local/lib/python3.*/ensurepip /usr/local/bin/pip*
COPY --from=build /opt/bakehouse /opt/bakehouse
COPY --from=build /srv/service /srv/service
WORKDIR /srv
ENV PATH=/opt/bakehouse/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    BAKEHOUSE_ARTIFACT=/srv/artifact
# The user nonroot of distroless images. The id is numeric, so that a cluster can verify that it is not root.
USER 65532:65532
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-m", "service", "healthcheck"]
ENTRYPOINT ["python", "-m", "service"]

FROM runtime AS serve
COPY --from=train /srv/artifact /srv/artifact
RUN ["python", "-m", "service", "check"]
ARG MODEL_VERSION=
ARG REVISION=
LABEL org.opencontainers.image.version=${MODEL_VERSION} \
      org.opencontainers.image.revision=${REVISION}
