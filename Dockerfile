# The two images that relevo runs on a cluster: `docker build --target server .` and `docker build --target operator .`.
# Debian's Python and wheels pinned by hash; no compiler, no pip, no root. `make images` builds both, by k8s/cluster.
ARG BASE=docker.io/library/debian:bookworm-slim
FROM ${BASE} AS python
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends python3 ca-certificates >/dev/null \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/cache/debconf/*-old /var/log/* /usr/share/doc /usr/share/man

FROM python AS build
# A site's own index and certificate authorities, where it has them; neither stays in the image.
ARG PIP_INDEX_URL
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore UV_NO_CACHE=1 UV_LINK_MODE=copy
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends python3-venv >/dev/null \
 && python3 -m venv --without-pip /opt/venv && python3 -m venv /tmp/installer
# uv, in the version and by the digests of the lock file.
COPY requirements.lock /tmp/
RUN sed -n '/^uv==/,/^ *# via/p' /tmp/requirements.lock >/tmp/uv.lock \
 && /tmp/installer/bin/pip install --quiet --require-hashes -r /tmp/uv.lock
ENV INSTALL="/tmp/installer/bin/uv pip install --quiet --python /opt/venv/bin/python --only-binary :all: --require-hashes --compile-bytecode"

FROM build AS server-packages
COPY requirements-server.lock /
RUN $INSTALL ${PIP_INDEX_URL:+--default-index $PIP_INDEX_URL} -r /requirements-server.lock \
 && find /opt/venv -depth -type d \( -name tests -o -name test \) -path '*/site-packages/*' -exec rm -rf {} +

FROM build AS operator-packages
COPY requirements-operator.lock /
RUN $INSTALL ${PIP_INDEX_URL:+--default-index $PIP_INDEX_URL} -r /requirements-operator.lock \
 && find /opt/venv -depth -type d \( -name tests -o -name test \) -path '*/site-packages/*' -exec rm -rf {} +

FROM build AS program
COPY relevo /app/relevo
COPY loadtests /app/loadtests
# Compiled here, as the root file system is read-only where it runs.
RUN python3 -m compileall -q /app

# The model server: python -m relevo.serving.
FROM python AS server
ENV PATH=/opt/venv/bin:/usr/bin:/bin PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
COPY --from=server-packages /opt/venv /opt/venv
COPY --from=program /app/relevo /app/relevo
WORKDIR /app
USER 65532:65532
EXPOSE 8080 8081
ENTRYPOINT ["python", "-m", "relevo.serving"]

# The operator, the command line and the load: python -m relevo.operator, python -m relevo, locust.
FROM python AS operator
ENV PATH=/opt/venv/bin:/usr/bin:/bin PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp MPLCONFIGDIR=/tmp
COPY --from=operator-packages /opt/venv /opt/venv
COPY --from=program /app /app
RUN printf '#!/bin/sh\nexec python -m relevo "$@"\n' >/usr/bin/relevo && chmod 755 /usr/bin/relevo
WORKDIR /app
USER 65532:65532
ENTRYPOINT ["python", "-m", "relevo.operator"]
