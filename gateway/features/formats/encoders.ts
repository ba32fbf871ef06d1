// Owns the list of encoders: a new format is a file in this folder and an entry here.

import { csv } from './csv.ts'
import type { Encoder } from './encoder.ts'
import { flatgeobuf } from './flatgeobuf.ts'
import { geojson } from './geojson.ts'
import { geojsonSeq, ndjson } from './geojson-seq.ts'
import { geoparquet } from './geoparquet.ts'
import { jsonfg } from './jsonfg.ts'

/** The first one is used for a client that does not choose. */
export const encoders: readonly [Encoder, ...Encoder[]] = [
  geojson,
  jsonfg,
  geojsonSeq,
  ndjson,
  csv,
  flatgeobuf,
  geoparquet,
]
