# The bot in two stages: the first installs the locked packages, the second has no installer in use and no root.
#
#   docker build -t image-bot .
#   docker run --env-file .env --volume image-bot-data:/data --publish 127.0.0.1:8080:8080 \
#       --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --stop-timeout 15 image-bot

FROM python:3.13-slim AS packages
WORKDIR /build
COPY requirements.lock ./
# Wheels only: building a package would run code that no hash covers.
RUN python -m venv /opt/venv \
    && /opt/venv/bin/python -m pip install --no-cache-dir --no-compile --no-deps --only-binary :all: --require-hashes \
        --requirement requirements.lock \
    && /opt/venv/bin/python -m compileall -q /opt/venv/lib \
    && /opt/venv/bin/python -m pip uninstall --yes pip

FROM python:3.13-slim
RUN groupadd --gid 10001 bot \
    && useradd --uid 10001 --gid bot --no-create-home --home-dir /data --shell /usr/sbin/nologin bot \
    && install --directory --owner bot --group bot /data
# Japanese, Chinese and Korean letters for names and words in charts, in 7 MB; Noto's take 90. The rest is in the font
# that matplotlib brings. It may be of any version: nothing depends on one, and old ones leave the archive.
# libseccomp2 confines the processes that read images; pyseccomp calls it.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends fonts-droid-fallback libseccomp2 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY --from=packages /opt/venv /opt/venv
COPY bot bot
COPY cogs cogs
# The operator's prices lie in data/ when the database is on a server: in the volume as well.
RUN chmod -R a+rX bot cogs && ln -s /data data && python -m compileall -q bot cogs
# The root file system may be read-only: nothing is written but /data and /tmp.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    DATABASE_URL=sqlite:////data/bot.sqlite3 \
    HTTP_HOST=0.0.0.0 \
    HTTP_PORT=8080 \
    WEBHOOK_PORT=8081 \
    LOG_FORMAT=json
USER 10001:10001
# The bot ends within 10 seconds of it and loses nothing.
STOPSIGNAL SIGTERM
VOLUME /data
EXPOSE 8080 8081
# The answer shows that the event loop turns. Whether Discord and the database work is /readyz's to say: a restart cures
# neither.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['HTTP_PORT']), timeout=4); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
CMD ["python", "-m", "bot"]
