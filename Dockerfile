# One image for every service but PostgreSQL: Python, this project, and PostgreSQL's client for backups.
FROM python:3.11.13-slim-bookworm AS build

# An index with PyTorch's builds for processors alone, asked beside PyPI. Without one torch is PyPI's, which brings CUDA:
# it runs on processors too, and makes the image four gigabytes larger.
ARG TORCH_INDEX=
# an index in place of PyPI, by pip's own name
ARG PIP_INDEX_URL=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH
WORKDIR /app
COPY constraints.txt ./
RUN pip install --constraint constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "$(grep '^torch==' constraints.txt)"
# what a change of the code leaves as it is: the packages, and the links to /app
COPY pyproject.toml LICENSE ./
RUN touch README.md && pip install --constraint constraints.txt --editable '.[s3]'

FROM python:3.11.13-slim-bookworm

RUN apt-get update \
 && apt-get install --yes --no-install-recommends postgresql-client-15 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 1000 --no-create-home --home-dir /tmp unroll \
 && install -d -o unroll -g unroll /data /data/artifacts /data/unroll /data/worker /data/prefect
COPY --from=build /venv /venv
ENV PATH=/venv/bin:/usr/lib/postgresql/15/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
COPY . .
# the root file system may be read-only: what is not compiled here is compiled at every start
RUN python -m compileall -q src flows tasks stack
USER unroll
CMD ["unroll", "--help"]
