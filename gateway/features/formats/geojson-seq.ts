// Owns sequences of GeoJSON features: each is a text of its own, so that programs can read them one by one.

import { type Encoder, makeEncoder, textsOf } from './encoder.ts'
import type { Format } from './format.ts'
import { geojsonFeatures } from './geojson.ts'

/** RFC 8142. */
export const GEOJSON_SEQ: Format = {
  name: 'geojsonseq',
  types: ['application/geo+json-seq'],
  title: 'a GeoJSON text sequence',
}
/** Without record separators, as most programs that read lines expect it. There is no registered type. */
export const NDJSON: Format = {
  name: 'ndjson',
  types: ['application/x-ndjson', 'application/ndjson', 'application/jsonl'],
  title: 'GeoJSON, a feature on each line',
}

const RECORD_SEPARATOR = '\x1e'
/** Texts of JSON have this character only in strings, and escaped there. */
const SEPARATOR = `}${RECORD_SEPARATOR}`

/** Returns the encoder of features on lines. @param mark text before each feature */
const encoderOf = (format: Format, extensions: Encoder['extensions'], mark: string): Encoder =>
  makeEncoder((system) => ({
    ...geojsonFeatures(system),
    format,
    extensions,
    hasLinks: false,
    separator: SEPARATOR,
    open() {
      let between = mark
      return {
        start: () => '',
        write(features) {
          let text = ''
          for (const feature of textsOf(features)) {
            text += between + oneLine(feature)
            // The last brace of a batch comes with the next one.
            between = `}\n${mark}`
          }
          return text.includes(SEPARATOR) ? text.replaceAll(SEPARATOR, between) : text
        },
        end: () => (between === mark ? '' : '}\n'),
        stamp: () => '',
      }
    },
  }))

/** A column of json keeps the line breaks with which its texts were stored; strings in JSON have none. */
const oneLine = (text: string) => (/[\r\n]/.test(text) ? text.replace(/[\r\n]+/g, ' ') : text)

export const geojsonSeq = encoderOf(GEOJSON_SEQ, ['geojsons'], RECORD_SEPARATOR)
export const ndjson = encoderOf(NDJSON, ['ndjson', 'geojsonl', 'jsonl'], '')
