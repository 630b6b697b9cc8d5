# twinsynth with the packages of requirements.lock, for GPUs and CPUs. docs/getting_started.md tells how to use it.
#   docker build --tag twinsynth --build-arg UID=$(id -u) .
# torch brings CUDA's libraries in its own packages; the base gives the driver's entry points and the system.
ARG BASE=nvidia/cuda:13.0.1-runtime-ubuntu24.04
FROM ${BASE}

# finetune.compile and generate.compile build kernels: they need a C++ compiler, and Triton Python's headers.
ARG DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates g++ git make python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

# Files that runs write into mounted folders belong to this user; the base's own user may have its number.
ARG UID=1000
RUN (userdel --remove ubuntu 2>/dev/null || true) \
    && useradd --uid ${UID} --create-home researcher \
    && mkdir /twinsynth && chown researcher:researcher /twinsynth
USER researcher
WORKDIR /twinsynth

# The environment first: it changes with the lock only.
COPY --chown=researcher:researcher requirements.lock ./
RUN python3 -m venv .venv \
    && .venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock

COPY --chown=researcher:researcher . ./
RUN .venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation --editable . \
    && touch .venv/.installed \
    && git init --quiet

ENV PATH=/twinsynth/.venv/bin:${PATH} \
    TOKENIZERS_PARALLELISM=false
CMD ["make", "demo"]
