# Serves the model in /models/${MODEL_NAME}, as TensorFlow Serving's image does:
#
#   docker build -t pyserving .
#   docker run -p 8500:8500 -p 8501:8501 -v /abs/path/to/my_model:/models/my_model -e MODEL_NAME=my_model pyserving
#
# Words after the image's name are further flags of the server. `--build-arg EXTRAS=[text]` adds the ops of TensorFlow Text,
# `[gpu]` CUDA, `[forests]` decision forests, `[remote]` base paths on s3://.
ARG PYTHON_VERSION=3.12

FROM python:${PYTHON_VERSION}-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY pyserving ./pyserving
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON_VERSION}-slim
ARG EXTRAS=""
COPY --from=build /wheels /tmp/wheels
RUN wheel="$(ls /tmp/wheels/pyserving-*.whl)" \
    && pip install --no-cache-dir "${wheel}${EXTRAS}" \
    && rm -r /tmp/wheels \
    && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin serving \
    && mkdir /models \
    && ln -s "$(command -v tensorflow_model_server)" /usr/bin/tensorflow_model_server
COPY docker/entrypoint.sh /usr/bin/tf_serving_entrypoint.sh
COPY docker/healthcheck.py /usr/lib/pyserving/healthcheck.py

ENV MODEL_NAME=model MODEL_BASE_PATH=/models
EXPOSE 8500 8501
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
# A server whose first model takes minutes is not sick: failures count only after the start period. The check speaks plain
# gRPC to port 8500, or to PYSERVING_HEALTH_PORT: a server with --ssl_config_file wants `docker run --no-healthcheck`.
HEALTHCHECK --start-period=5m --interval=10s --timeout=10s --retries=3 \
    CMD ["python", "/usr/lib/pyserving/healthcheck.py"]
# SIGTERM drains; give it `--stop-timeout` above the server's --shutdown_grace_seconds.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/tf_serving_entrypoint.sh"]
