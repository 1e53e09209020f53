# One image for every role; the command says which (see compose.yaml).
FROM python:3.13-slim
WORKDIR /app
COPY requirements.lock pyproject.toml ./
RUN pip install --no-cache-dir --require-hashes --requirement requirements.lock
COPY schemas schemas
COPY outbox outbox
COPY services services
COPY consumers consumers
COPY web web
RUN useradd --system aftercommit
USER aftercommit
