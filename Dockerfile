# FastServe with Ray, for KubeRay and for one machine. The GPU image changes the base and the extra only:
#   docker build -t fastserve:cpu .
#   docker build -t fastserve:gpu --build-arg BASE=rayproject/ray:2.60.0-py311-cu129 --build-arg TARGET=gpu .
ARG BASE=rayproject/ray:2.60.0-py311-cpu
FROM ${BASE}
ARG TARGET=cpu
WORKDIR /home/ray/fastserve
COPY --chown=ray:users . .
RUN bash scripts/image.sh "$TARGET"
RUN cd / && python -c 'import pathlib; from serve_app.http.haproxy import launcher; launcher(pathlib.Path("/home/ray"))'
ENV FASTSERVE_HOME=/home/ray/.fastserve RAY_worker_niceness=0 RAY_USAGE_STATS_ENABLED=0 \
    RAY_SERVE_HAPROXY_BINARY_PATH=/home/ray/haproxy
WORKDIR /home/ray
EXPOSE 8000
CMD ["fastserve", "up", "cluster.yaml"]
