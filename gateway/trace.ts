// Owns traces: a span for each request and each of its statements, exported to a collector. Traces are off unless
// OpenTelemetry's own variables turn them on: then nothing of it is loaded, and `traced` only calls its function.

import type { Attributes, Context, Tracer } from '@opentelemetry/api'
import { withoutSecrets } from './events.ts'

/** OpenTelemetry's API, and the gateway's tracer; undefined if traces are off. */
let tracing: { readonly api: typeof import('@opentelemetry/api'); readonly tracer: Tracer } | undefined

/**
 * Loads the SDK, which exports spans to the collector that OTEL_EXPORTER_OTLP_ENDPOINT names. The SDK itself reads
 * OTEL_TRACES_SAMPLER, OTEL_RESOURCE_ATTRIBUTES and OpenTelemetry's other variables.
 * @returns a function that sends the last spans
 * @see https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
 */
export async function openTracing(): Promise<() => Promise<void>> {
  const [api, { BatchSpanProcessor, NodeTracerProvider }, { OTLPTraceExporter }, resources] =
    await Promise.all([
      import('@opentelemetry/api'),
      import('@opentelemetry/sdk-trace-node'),
      import('@opentelemetry/exporter-trace-otlp-http'),
      import('@opentelemetry/resources'),
    ])
  const own = resources.resourceFromAttributes({ 'service.name': 'tessera' })
  const told = resources.detectResources({ detectors: [resources.envDetector] })
  const provider = new NodeTracerProvider({
    resource: resources.defaultResource().merge(own).merge(told),
    spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())],
  })
  provider.register()
  tracing = { api, tracer: api.trace.getTracer('tessera') }
  return () => provider.shutdown()
}

/** Runs work that another program does for the gateway, in a span within that of the request. */
export async function traced<T>(
  name: string,
  attributes: () => Attributes,
  work: () => Promise<T>,
): Promise<T> {
  if (!tracing) return work()
  const { api, tracer } = tracing
  return tracer.startActiveSpan(
    name,
    { kind: api.SpanKind.CLIENT, attributes: attributes() },
    async (span) => {
      try {
        return await work()
      } catch (error) {
        span.recordException(error as Error)
        span.setStatus({ code: api.SpanStatusCode.ERROR, message: (error as Error).message })
        throw error
      } finally {
        span.end()
      }
    },
  )
}

export interface RequestTrace {
  /** Calls `next` within the span, so that everything that is traced from there belongs to it. */
  enter(next: () => void): void
  end(answer: { readonly route: string | undefined; readonly status: number }): void
}

/**
 * Starts the span of a request, within the caller's span if the header `traceparent` names one.
 * @returns undefined if traces are off
 */
export function traceRequest(
  method: string,
  url: string,
  headers: Readonly<Record<string, unknown>>,
): RequestTrace | undefined {
  if (!tracing) return undefined
  const { api, tracer } = tracing
  const caller = api.propagation.extract(api.context.active(), headers)
  const path = withoutSecrets(url.split('?', 1)[0]!)
  const attributes = { 'http.request.method': method, 'url.path': path }
  const span = tracer.startSpan(method, { kind: api.SpanKind.SERVER, attributes }, caller)
  const within: Context = api.trace.setSpan(caller, span)
  return {
    enter: (next) => api.context.with(within, next),
    end({ route, status }) {
      if (route !== undefined) span.updateName(`${method} ${route}`).setAttribute('http.route', route)
      span.setAttribute('http.response.status_code', status)
      if (status >= 500) span.setStatus({ code: api.SpanStatusCode.ERROR })
      span.end()
    },
  }
}
