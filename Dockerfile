# syntax=docker/dockerfile:1

FROM python:3.11-slim AS packages
RUN python -m venv /venv
COPY requirements.txt /
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check -r /requirements.txt

FROM python:3.11-slim
RUN groupadd --system --gid 10001 connector \
    && useradd --system --uid 10001 --gid connector --no-create-home --shell /usr/sbin/nologin connector \
    && install -d -o connector -g connector /app/data
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
# http.client rather than urllib: a container's HTTP_PROXY must not come between it and itself.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('PORT') or 3000), timeout=4); c.request('GET', '/health'); sys.exit(c.getresponse().status != 200)"]
CMD ["python", "run.py"]
