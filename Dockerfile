# The engine in a container, for processors (`--target cpu`, the default) or NVIDIA GPUs (`cuda`).
# How to use it: docs/cookbook/docker-compose.md.
# syntax=docker/dockerfile:1

FROM python:3.13-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY src src
RUN python -m venv /opt/tunesmith

FROM build AS build-cpu
ARG EXTRAS=engine,compiled,export
RUN /opt/tunesmith/bin/pip install -c constraints.txt \
    --extra-index-url https://download.pytorch.org/whl/cpu ".[${EXTRAS}]"

# PyTorch's wheels from the package index bring CUDA's libraries; the driver is the host's.
FROM build AS build-cuda
ARG EXTRAS=engine,compiled,export,quantized
RUN /opt/tunesmith/bin/pip install -c constraints.txt ".[${EXTRAS}]"

FROM python:3.13-slim-bookworm AS runtime
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/tunesmith tunesmith \
    && install -d -o tunesmith -g tunesmith -m 0700 /var/lib/tunesmith/home
ENV PATH=/opt/tunesmith/bin:$PATH TUNESMITH_HOME=/var/lib/tunesmith/home PYTHONUNBUFFERED=1
USER 10001
WORKDIR /var/lib/tunesmith
VOLUME /var/lib/tunesmith/home
EXPOSE 8712
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8712/readyz', timeout=4)"]
# Ctrl-C and `docker stop` let trainings write a checkpoint.
STOPSIGNAL SIGTERM
ENTRYPOINT ["tunesmith"]
# On all addresses of the container, so the engine asks for a key to exist first.
CMD ["serve", "--host", "0.0.0.0"]

FROM runtime AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-cuda /opt/tunesmith /opt/tunesmith

FROM runtime AS cpu
COPY --from=build-cpu /opt/tunesmith /opt/tunesmith
