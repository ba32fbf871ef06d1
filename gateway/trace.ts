// Owns traces: a span for each request and each of its statements, for whoever collects them. Off unless OpenTelemetry's
// own variables say where to: then nothing of it is loaded, and a span is a call of a function.

import {
  type Attributes,
  type Context,
  context,
  propagation,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
} from '@opentelemetry/api'

let isTracing = false
const tracer = trace.getTracer('tessera')

/**
 * Spans go to the collector that OTEL_EXPORTER_OTLP_ENDPOINT names, as OTEL_TRACES_SAMPLER, OTEL_RESOURCE_ATTRIBUTES
 * and their like say; all are read by the library itself.
 * @returns what sends the last of them
 * @see https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
 */
export async function openTracing(): Promise<() => Promise<void>> {
  const [{ BatchSpanProcessor, NodeTracerProvider }, { OTLPTraceExporter }, resources] = await Promise.all([
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
  isTracing = true
  return () => provider.shutdown()
}

/** Of work that another program does for us: one span, within that of the request it is for. */
export async function traced<T>(
  name: string,
  attributes: () => Attributes,
  work: () => Promise<T>,
): Promise<T> {
  if (!isTracing) return work()
  return tracer.startActiveSpan(name, { kind: SpanKind.CLIENT, attributes: attributes() }, async (span) => {
    try {
      return await work()
    } catch (error) {
      fail(span, error as Error)
      throw error
    } finally {
      span.end()
    }
  })
}

export interface RequestTrace {
  /** Goes on within the span: what is traced from there on is part of it. */
  enter(next: () => void): void
  end(answer: { readonly route: string | undefined; readonly status: number }): void
}

/**
 * The span of a request, within that of whoever has sent it, as its header `traceparent` says.
 * @returns undefined where nothing is traced
 */
export function traceRequest(
  method: string,
  path: string,
  headers: Readonly<Record<string, unknown>>,
): RequestTrace | undefined {
  if (!isTracing) return undefined
  const caller = propagation.extract(context.active(), headers)
  const attributes = { 'http.request.method': method, 'url.path': path }
  const span = tracer.startSpan(method, { kind: SpanKind.SERVER, attributes }, caller)
  const within: Context = trace.setSpan(caller, span)
  return {
    enter: (next) => context.with(within, next),
    end({ route, status }) {
      if (route !== undefined) span.updateName(`${method} ${route}`).setAttribute('http.route', route)
      span.setAttribute('http.response.status_code', status)
      if (status >= 500) span.setStatus({ code: SpanStatusCode.ERROR })
      span.end()
    },
  }
}

function fail(span: Span, error: Error) {
  span.recordException(error)
  span.setStatus({ code: SpanStatusCode.ERROR, message: error.message })
}
