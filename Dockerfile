# syntax=docker/dockerfile:1

# The base is named by its digest; `make base` takes the newest one.
FROM python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b AS packages
COPY requirements.txt /
# pip stays in this stage: the image has no installer. Each file is the one whose hash the lock has.
RUN python -m venv /pip && python -m venv --without-pip /venv \
    && /pip/bin/pip --python /venv/bin/python install --no-cache-dir --disable-pip-version-check \
       --require-hashes -r /requirements.txt

FROM python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b
LABEL org.opencontainers.image.title="nsps-connector" \
      org.opencontainers.image.description="A connector for PortaOne NSPS"
RUN groupadd --gid 10001 connector \
    && useradd --no-log-init --uid 10001 --gid connector --no-create-home --shell /usr/sbin/nologin connector \
    && install -d -o connector -g connector /app/data \
    && rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/ensurepip /usr/local/lib/python3*/site-packages/*
COPY --from=packages /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app
COPY run.py ./
COPY connector ./connector
# Readable whatever the umask of the checkout; compiled now, since the image's user cannot write beside the code.
RUN chmod -R a+rX run.py connector && python -m compileall -q run.py connector
USER 10001:10001
VOLUME /app/data
EXPOSE 3000
STOPSIGNAL SIGTERM
# It takes HOST, PORT and TLS from the settings, so it asks where the connector listens.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-m", "connector", "health"]
CMD ["python", "run.py"]
