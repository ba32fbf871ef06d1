// Owns the check that a response conforms to openapi.json.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { Ajv } from 'ajv'
import formatsModule from 'ajv-formats'

type Schema = Record<string, unknown>
type Operation = { responses: Record<string, { content?: Record<string, { schema: Schema }> }> }
type Document = {
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, Schema> }
}

const document = JSON.parse(
  readFileSync(new URL('../../../openapi/openapi.json', import.meta.url), 'utf8'),
) as Document
const ajv = new Ajv({ strict: false, allErrors: true })
const addFormats = formatsModule as unknown as (instance: Ajv) => void
addFormats(ajv)
ajv.addSchema({ $id: 'document', ...document })

const templates = Object.keys(document.paths).map((template) => ({
  template,
  pattern: new RegExp(`^${template.replaceAll(/\{\w+\}/g, '[^/]+')}/?$`),
}))

/** Fails if a response has a status, a media type or a body that the document does not allow for its operation. */
export function checkResponse(method: string, path: string, status: number, type: string, body: string) {
  const found = templates.find(({ pattern }) => pattern.test(path))
  const isError = status >= 400
  // A request for which the document has no operation must be answered with a problem.
  const operation = found && document.paths[found.template]![method.toLowerCase()]
  if (!operation) {
    assert.ok(isError, `${method} ${path} answered ${status}, but is not in the document`)
    return checkBody(body, { $ref: 'document#/components/schemas/Problem' }, `${method} ${path}`)
  }
  const response = operation.responses[String(status)]
  if (status === 304) return
  assert.ok(response, `${method} ${path}: the document has no answer ${status}`)
  if (!response.content) return assert.equal(body, '', `${method} ${path} ${status}`)
  // The client of a change may ask for a response without a body (return=minimal).
  if (body === '' && method !== 'GET' && !isError) return
  const media = Object.entries(response.content ?? {}).find(([name]) => isSameType(name, type))
  assert.ok(media, `${method} ${path} ${status}: the document has no type ${type}`)
  if (/[/+]json(;|$)/.test(type)) checkBody(body, media[1].schema, `${method} ${path} ${status}`)
}

const isSameType = (declared: string, sent: string) => sent.replace(/; ?charset=utf-8$/, '') === declared

function checkBody(body: string, schema: Schema, what: string) {
  const absolute = JSON.parse(JSON.stringify(schema).replaceAll('"#/', '"document#/'))
  const validate = ajv.compile(absolute)
  assert.ok(validate(JSON.parse(body)), `${what}: ${ajv.errorsText(validate.errors)}\n${body.slice(0, 500)}`)
}
