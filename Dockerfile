# Stratos on a CPU, without an account or a GPU.
#   docker build -t stratos .                         the core: linear and static students, plans, serving
#   docker build -t stratos --build-arg EXTRAS=train .    with PyTorch for CPUs
#   docker run --rm -v "$PWD:/work" stratos run +task=classify task.path=tickets.csv
#   docker run --rm -v "$PWD:/work" --network host stratos serve outputs/<run> --foreground --port 8000
FROM python:3.12-slim AS build
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
ARG EXTRAS=""
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
        "$(ls /wheels/*.whl)${EXTRAS:+[$EXTRAS]}" \
    && useradd --create-home --uid 1000 stratos
USER 1000
WORKDIR /work
ENTRYPOINT ["stratos"]
CMD ["--help"]
