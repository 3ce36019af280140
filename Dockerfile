# The README's two commands in a container. Untried where it was written, which has no Docker.
#
#   docker build -t eva-rl .
#   docker run --rm -it eva-rl make demo
#   docker run --rm -it eva-rl make test
FROM rust:1.95-bookworm

RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ make python3 python3-pip python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && rustup component add clippy rustfmt

WORKDIR /eva-rl
COPY . .
RUN make build

ENV PATH="/eva-rl/target/release:${PATH}"
CMD ["eva-rl", "--help"]
