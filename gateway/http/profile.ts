// Owns the profiles of GeoJSON (RFC 6906; JSON-FG, 14): which one an answer has, and the link that names it.

import type { Encoder } from '../features/formats/encoder.ts'
import { geojson } from '../features/formats/geojson.ts'
import { JSONFG, jsonfg, jsonfgPlus } from '../features/formats/jsonfg.ts'
import { Type } from './type.ts'

type Profile = { readonly name: string; readonly encoder: Encoder }

/** The first one is that of answers to clients that do not choose. */
const PROFILES: readonly [Profile, ...Profile[]] = [
  { name: 'rfc7946', encoder: geojson },
  { name: 'jsonfg', encoder: jsonfg },
  { name: 'jsonfg-plus', encoder: jsonfgPlus },
]

const uriOf = ({ name }: Profile) => `http://www.opengis.net/def/profile/OGC/0/${name}`

export const profileParameter = Type.Optional(
  Type.Array(Type.String(), {
    description: `Profile of GeoJSON: ${PROFILES.map(({ name }) => name).join(', ')}, or the URI of one. Of several, the first that there is counts. Other formats have none.`,
    example: ['jsonfg'],
    'x-expected': 'names of profiles separated by commas',
  }),
)

export type Shown = {
  readonly encoder: Encoder
  /** The header Link that names the profile; undefined for a format without profiles. */
  readonly link: string | undefined
}

/**
 * Returns the encoder for a format in a profile. A profile that is not known, or that the format does not have, is no
 * error, as the standard recommends.
 */
export function chooseProfile(encoder: Encoder, wanted: readonly string[] = []): Shown {
  if (encoder !== geojson && encoder.format !== JSONFG) return { encoder, link: undefined }
  const available = encoder === geojson ? PROFILES : PROFILES.filter((one) => one.encoder !== geojson)
  const named = wanted.flatMap(
    (name) => available.find((one) => one.name === name || uriOf(one) === name) ?? [],
  )
  const profile = named[0] ?? available[0]!
  return { encoder: profile.encoder, link: `<${uriOf(profile)}>; rel="profile"` }
}
