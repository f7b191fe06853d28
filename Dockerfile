# One image for worker, beat, Flower, metrics and the commands; docs/deployment.md says how to build and run it.
FROM python:3.13.15-slim-trixie@sha256:8d9d0b8bcf6506481eae4907c18f5e3e7902e629f5f6d684f9e7c32e85e3ddf0 AS base

ENV PYTHONDONTWRITEBYTECODE=1


FROM base AS build

WORKDIR /build
COPY requirements.lock .
# The environment gets no pip of its own: nothing is installed into a running container.
# Compiled files are checked by nobody (unchecked-hash), so they hold no time and need no writable directory.
RUN python -m venv --without-pip /opt/rowrelay \
    && pip --python /opt/rowrelay/bin/python install --no-cache-dir --no-compile --disable-pip-version-check \
        --root-user-action=ignore --require-hashes --only-binary=:all: -r requirements.lock
COPY app /app/app
COPY tasks /app/tasks
COPY config.py celery_app.py flowerconfig.py /app/
# Debian's build of the driver is the one that this image can load.
RUN rm -rf /opt/rowrelay/lib/python3.13/site-packages/mssql_python_odbc/libs/linux/alpine \
        /opt/rowrelay/lib/python3.13/site-packages/mssql_python_odbc/libs/linux/rhel \
        /opt/rowrelay/lib/python3.13/site-packages/mssql_python_odbc/libs/linux/suse \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/rowrelay/lib /app


FROM base AS runtime

# Empty: Debian's packages of today. A time such as 20261101T000000Z: those of that moment, for the same image again.
ARG DEBIAN_SNAPSHOT=""

# unixODBC, which pyodbc is linked against, and what Microsoft's driver loads besides it: Kerberos, OpenSSL, libstdc++.
# hadolint ignore=DL3008
RUN if [ -n "$DEBIAN_SNAPSHOT" ]; then \
        sed -i "s|^URIs: http://deb.debian.org/\(.*\)$|URIs: http://snapshot.debian.org/archive/\1/$DEBIAN_SNAPSHOT|" \
            /etc/apt/sources.list.d/debian.sources; \
    fi \
    && apt-get -o Acquire::Check-Valid-Until=false update \
    && apt-get install -y --no-install-recommends libgssapi-krb5-2 libodbc2 libssl3t64 libstdc++6 \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log /var/log/alternatives.log /var/cache/ldconfig/aux-cache \
        /var/cache/debconf/*-old /var/lib/dpkg/*-old

# The time, in seconds since 1970, that useradd and the builder write: the same sources give the same image.
ARG SOURCE_DATE_EPOCH=0
RUN groupadd --gid 10001 rowrelay \
    && useradd --no-log-init --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin rowrelay \
    && rm -f /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid- \
    && install -d -o 10001 -g 10001 /var/lib/rowrelay

COPY --from=build /opt/rowrelay /opt/rowrelay
COPY --from=build /app /app

ENV PATH=/opt/rowrelay/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
WORKDIR /app
USER 10001:10001

# An image whose driver cannot be loaded is not made.
RUN ["python", "-c", "from app.source.products.mssql.odbc import find_driver; print(find_driver(None))"]

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="rowrelay" \
      org.opencontainers.image.description="Delivers every new row of a SQL Server table to a partner's HTTP API, and can prove it" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.base.name="docker.io/library/python:3.13.15-slim-trixie"

# What a worker does with SIGTERM takes SHUTDOWN_GRACE and 3 seconds at most: docker stop --time 30.
STOPSIGNAL SIGTERM
# For a worker, which is what runs where no other command is given. docker-compose.yml names one for each service.
HEALTHCHECK --interval=30s --timeout=20s --start-period=60s --retries=3 \
    CMD ["python", "-m", "app", "health", "--role", "worker"]
CMD ["python", "-m", "app", "watch", "--", "celery", "-A", "celery_app", "worker"]
