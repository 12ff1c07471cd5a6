# The service, for CPU (`--target cpu`, the default) or for NVIDIA GPUs (`--target gpu`).
# Packages are installed in stages of their own, so that no installer's leftovers reach the image.

FROM python:3.11-slim AS build
WORKDIR /build
# Without pip inside: nothing is installed into a running container.
RUN python -m venv --without-pip /opt/venv

FROM build AS packages-cpu
COPY requirements/serve-cpu.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m pip --python /opt/venv/bin/python install --no-deps --require-hashes -r serve-cpu.txt

FROM build AS packages-gpu
COPY requirements/serve-gpu.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m pip --python /opt/venv/bin/python install --no-deps --require-hashes -r serve-gpu.txt

FROM python:3.11-slim AS application
LABEL org.opencontainers.image.title="vqtok" \
      org.opencontainers.image.description="Images to tokens, tokens to images, over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /app
COPY vqtok/ vqtok/
COPY service/ service/
COPY bundles/ bundles/
COPY LICENSE ./
RUN python -m compileall -q vqtok service
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    VQTOK_HOST=0.0.0.0 \
    VQTOK_PORT=8000
EXPOSE 8000
USER 10001:10001
# Another port is chosen with VQTOK_PORT rather than a flag, so that this asks the right one.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['VQTOK_PORT']), timeout=4); c.request('GET', '/health/ready'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "service"]

FROM application AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=packages-gpu /opt/venv /opt/venv

FROM application AS cpu
COPY --from=packages-cpu /opt/venv /opt/venv
