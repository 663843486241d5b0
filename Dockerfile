# syntax=docker/dockerfile:1
# One image for the agent, the proxy and the CNI executable.
ARG NODE_IMAGE=node:26-bookworm-slim

FROM ${NODE_IMAGE} AS build
WORKDIR /src
COPY package.json package-lock.json ./
RUN npm install --no-save --ignore-scripts --no-audit --no-fund
COPY . .
RUN node tools/build.mjs \
    && npm prune --no-save --omit=dev --ignore-scripts --no-audit --no-fund \
    && rm -r node_modules/@oven

FROM ${NODE_IMAGE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends conntrack iproute2 iptables kmod nftables \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/twill
COPY --from=build /src/package.json /src/LICENSE ./
COPY --from=build /src/node_modules node_modules
COPY --from=build /src/dist dist
RUN ln -s /opt/twill/dist/main.js /usr/local/bin/twill
ENV NODE_ENV=production
ENTRYPOINT ["/usr/local/bin/twill"]
