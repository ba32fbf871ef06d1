// Owns the list of encoders: a new format is a file in this folder and an entry here.

import type { Encoder } from './encoder.ts'
import { geojson } from './geojson.ts'

/** The first one is used for a client that does not choose. */
export const encoders: readonly [Encoder, ...Encoder[]] = [geojson]
