# One image for every service but PostgreSQL: Python, this project, and PostgreSQL's client for backups.
FROM python:3.11.13-slim-bookworm AS build

# torch for processors alone is a tenth of the size; empty takes PyPI's, with CUDA
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH
WORKDIR /app
COPY constraints.txt ./
RUN torch=$(grep '^torch==' constraints.txt) \
 && pip install --constraint constraints.txt ${TORCH_INDEX:+--index-url $TORCH_INDEX --extra-index-url https://pypi.org/simple} "$torch"
COPY . .
RUN pip install --constraint constraints.txt --editable '.[s3]'

FROM python:3.11.13-slim-bookworm

RUN apt-get update \
 && apt-get install --yes --no-install-recommends postgresql-client-15 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 1000 --create-home unroll \
 && install -d -o unroll -g unroll /data /data/artifacts /data/unroll /data/worker /data/prefect
COPY --from=build /venv /venv
COPY --from=build /app /app
ENV PATH=/venv/bin:/usr/lib/postgresql/15/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
USER unroll
CMD ["unroll", "--help"]
