# The gateway alone; docker-compose.yml puts a PostGIS beside it.

FROM node:24-slim AS packages
WORKDIR /opt/tessera
COPY package.json package-lock.json .npmrc ./
# What serves, without what tests and without the SDK; no package of these needs to run a script.
RUN npm ci --omit=dev --ignore-scripts --workspaces=false

FROM node:24-slim
WORKDIR /opt/tessera
COPY --from=packages /opt/tessera/node_modules node_modules
COPY package.json LICENSE ./
COPY gateway gateway
COPY sql sql
RUN rm -rf gateway/test
# Within a container loopback reaches nobody.
ENV NODE_ENV=production TESSERA_HOST=0.0.0.0 TESSERA_PORT=8080
USER node
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:' + process.env.TESSERA_PORT + '/health/ready').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "gateway/main.ts"]
CMD ["serve"]
