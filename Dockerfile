# The dispatcher's image: Python, the locked packages, this package, and nothing that could build or fetch more.
#
#   docker build --tag myregistry.example/burst-dispatcher:0.1.0 .
#
# The base is named by its exact version. A digest, which no later push can change, is a fact of the registry that you
# pull from, so that none is written here; give yours when you build what goes into production:
#
#   docker build --build-arg PYTHON_IMAGE=python:3.11.14-slim-bookworm@sha256:... --tag ... .
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements/build.txt requirements/runtime.txt requirements/
# What builds the package stays in this stage. Wheels alone: nothing is compiled, so that no compiler is needed either.
RUN python -m venv /opt/build \
 && /opt/build/bin/pip install --require-hashes --only-binary :all: --requirement requirements/build.txt
RUN python -m venv --without-pip /opt/dispatcher \
 && /opt/build/bin/pip --python /opt/dispatcher/bin/python install --require-hashes --only-binary :all: \
        --requirement requirements/runtime.txt
COPY pyproject.toml README.md ./
COPY dispatcher dispatcher
RUN /opt/build/bin/pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /wheels . \
 && /opt/build/bin/pip --python /opt/dispatcher/bin/python install --no-deps --no-index /wheels/*.whl \
 && /opt/dispatcher/bin/dispatcher worker-kit --output /opt/dispatcher/burst-worker.pyz

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="burst-dispatcher" \
      org.opencontainers.image.description="Bursts on an Azure Service Bus queue into parallel Kubernetes Jobs, within budgets"
# A user that owns nothing; and no pip, which the base brings along.
RUN groupadd --gid 10001 dispatcher \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin dispatcher \
 && python -m pip uninstall --yes --quiet --root-user-action=ignore pip
COPY --from=build /opt/dispatcher /opt/dispatcher
# The root file system is read-only in the chart, and bytecode was written when the packages were installed.
ENV PATH=/opt/dispatcher/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /tmp
EXPOSE 8480
# SIGTERM ends receiving, lets a cycle come to its end and gives up the lease; pods of tasks run on.
STOPSIGNAL SIGTERM
# No HEALTHCHECK: Kubernetes asks /livez and /readyz, which know more.
ENTRYPOINT ["dispatcher", "run"]
CMD ["--config", "/etc/burst-dispatcher"]
