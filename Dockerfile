# syntax=docker/dockerfile:1
# One image for the agent, the proxy and the CNI executable.
# A tag may be moved to another image: pin the one you have looked at by its digest. What a tag stands for now is shown by
#   docker buildx imagetools inspect node:26-bookworm-slim
# and given here, or as --build-arg NODE_IMAGE=node:26-bookworm-slim@sha256:…
ARG NODE_IMAGE=node:26-bookworm-slim

FROM ${NODE_IMAGE} AS build
WORKDIR /src
COPY package.json package-lock.json ./
RUN npm install --no-save --ignore-scripts --no-audit --no-fund
COPY . .
RUN node tools/build.mjs && node tools/ship.mjs /ship

FROM ${NODE_IMAGE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends conntrack iproute2 iptables iputils-ping kmod nftables \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/twill
COPY --from=build /ship ./
RUN ln -s /opt/twill/dist/main.js /usr/local/bin/twill
ENV NODE_ENV=production
ENTRYPOINT ["/usr/local/bin/twill"]
