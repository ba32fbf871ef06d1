// Owns what the gateway uses of prom-client. Other files import it from here.

import { createRequire } from 'node:module'
import type * as Prometheus from 'prom-client'

/**
 * Loads single files of the package. The complete one has metrics of Node too, which the gateway does not show, and loads
 * OpenTelemetry's API for them: 70 files, 60 ms of the start of each process.
 */
const load = createRequire(import.meta.url)

export const Counter: typeof Prometheus.Counter = load('prom-client/lib/counter')
export const Gauge: typeof Prometheus.Gauge = load('prom-client/lib/gauge')
export type Gauge = Prometheus.Gauge
export const Histogram: typeof Prometheus.Histogram = load('prom-client/lib/histogram')
export const Registry: typeof Prometheus.Registry = load('prom-client/lib/registry')
export type Registry<T extends Prometheus.RegistryContentType = Prometheus.PrometheusContentType> =
  Prometheus.Registry<T>
export const AggregatorRegistry: typeof Prometheus.AggregatorRegistry = load('prom-client/lib/cluster')
