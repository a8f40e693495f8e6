# Two stages: what pip needs stays behind in the first one. Every package comes from the hash-checked lock.
FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/lab
COPY requirements.lock /tmp/requirements.lock
RUN /opt/lab/bin/python -m pip install --no-deps --only-binary :all: --require-hashes -r /tmp/requirements.lock
COPY . /app
RUN printf '/app\n' > "$(/opt/lab/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/inference_lab.pth" \
    && printf '#!/bin/sh\nexec /opt/lab/bin/python -P -m app.cli "$@"\n' > /opt/lab/bin/lab \
    && chmod +x /opt/lab/bin/lab \
    && /opt/lab/bin/python -m compileall -q /app

FROM python:3.11-slim
RUN groupadd --gid 10001 lab \
    && useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin lab \
    && install -d -o lab -g lab -m 0700 /data
COPY --from=build /opt/lab /opt/lab
COPY --from=build /app /app
ENV PATH=/opt/lab/bin:$PATH LAB_DATA=/data LAB_DEPLOYMENTS=/config/deployments.toml PYTHONUNBUFFERED=1
WORKDIR /app
# By number, so that a cluster can see that it is not root.
USER 10001:10001
VOLUME /data
EXPOSE 8501
# It asks the lab that noted its address in the data directory, whatever its port is, and never through a proxy.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 \
    CMD ["/opt/lab/bin/python", "-P", "-m", "services.processes.health"]
# Inside a container only 0.0.0.0 can be published. Who may reach it is decided where it is published: on 127.0.0.1 with
# compose.yaml, whose environment therefore says LAB_EVERYONE_IS_ADMIN=1. Without that variable, and without [auth] in
# /app/.streamlit/secrets.toml, it refuses to start.
ENTRYPOINT ["lab"]
CMD ["run", "--address", "0.0.0.0", "--port", "8501", "--no-browser"]
