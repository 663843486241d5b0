# syntax=docker/dockerfile:1
# One image for the agent, the proxy and the CNI executable. `npm run image` builds it without an engine and a registry.
# A tag may be moved to another image: pin the one you have looked at by its digest. What a tag stands for now is shown by
#   docker buildx imagetools inspect node:26-bookworm-slim
# and given here, or as --build-arg NODE_IMAGE=node:26-bookworm-slim@sha256:…
ARG NODE_IMAGE=node:26-bookworm-slim

# On the architecture of the machine that builds, whatever the image's is: only the last stage has to run on that one.
FROM --platform=${BUILDPLATFORM} ${NODE_IMAGE} AS build
ARG TARGETARCH
WORKDIR /src
COPY package.json package-lock.json ./
# Not `npm ci`: it refuses a lock file without the optional packages of platforms that a registry does not carry.
RUN npm install --no-save --ignore-scripts --no-audit --no-fund --prefer-offline
COPY . .
RUN node tools/build.mjs --ship-only && node tools/ship.mjs /ship ${TARGETARCH}

FROM ${NODE_IMAGE}
ARG NODE_IMAGE
RUN apt-get update \
    && apt-get install -y --no-install-recommends conntrack iproute2 iptables iputils-ping kmod nftables \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/apt /var/log/dpkg.log
WORKDIR /opt/twill
COPY --from=build /ship ./
# The code that V8 keeps is its architecture's.
RUN --mount=type=bind,from=build,source=/src/tools,target=/tools node /tools/kept-code.mjs dist
RUN ln -s /opt/twill/dist/main.js /usr/local/bin/twill
ENV NODE_ENV=production
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="twill" \
      org.opencontainers.image.description="A pod network for Kubernetes and plain Linux hosts: agent, CNI plugin and service proxy" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${NODE_IMAGE}"
ENTRYPOINT ["/usr/local/bin/twill"]
