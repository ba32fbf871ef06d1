# The gateway; docker-compose.single.yml runs it with one PostGIS, docker-compose.yml with a cluster.

FROM node:24-slim AS packages
WORKDIR /opt/tessera
COPY package.json package-lock.json .npmrc ./
# Installs the packages for serving, without those for tests and the SDK. None of them needs to run a script.
RUN npm ci --omit=dev --ignore-scripts --workspaces=false

FROM node:24-slim AS serving
WORKDIR /opt/tessera
COPY --from=packages /opt/tessera/node_modules node_modules
COPY package.json LICENSE ./
COPY sql sql
ENV NODE_ENV=production
USER node

# Prepares the cluster's containers and runs its fencers; see cluster/containers.ts and cluster/fencer.ts.
FROM serving AS cluster
USER root
RUN apt-get update && apt-get install -y --no-install-recommends openssl && rm -rf /var/lib/apt/lists/*
COPY cluster cluster
USER node
ENTRYPOINT ["node", "cluster/containers.ts"]

FROM serving AS gateway
COPY gateway gateway
COPY openapi/openapi.json openapi/openapi.json
# Other containers cannot reach the loopback of this one. Serving needs TLS then, or a trusted proxy (TESSERA_TRUST_PROXY), or
# TESSERA_INSECURE=true; see docs/guides/tls.md.
ENV TESSERA_HOST=0.0.0.0 TESSERA_PORT=8080
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 \
  CMD ["node", "--no-warnings", "-e", "process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'; fetch((process.env.TESSERA_TLS_CERTIFICATE ? 'https' : 'http') + '://127.0.0.1:' + process.env.TESSERA_PORT + '/health/ready').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "gateway/main.ts"]
CMD ["serve"]
