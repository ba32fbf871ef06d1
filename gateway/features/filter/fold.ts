// Owns the comparison without regard to case or accents: the same rules in SQL and here, for the texts that a filter
// contains.

import type { Fold } from './expression.ts'

/** Stands for ı meanwhile, which is no form of i: Unicode will never give this character a meaning. */
const DOTLESS_I = '\uFDD0'

/**
 * Letters of both cases become the same, as by Unicode's full case folding: ß and ss too, so it goes by upper case, and the
 * two small sigmas. ICU has the rules of Unicode for every database; those of its locale may know ASCII alone.
 */
const foldCase = (text: string) =>
  text
    .replaceAll('ẞ', 'ß')
    .replaceAll('ı', DOTLESS_I)
    .toUpperCase()
    .toLowerCase()
    .replaceAll('ς', 'σ')
    .replaceAll(DOTLESS_I, 'ı')

/** Marks that Unicode separates from their letters; not those of kana, which make another syllable. */
const MARKS =
  '\\u0300-\\u036F\\u0483-\\u0487\\u0591-\\u05BD\\u05BF\\u05C1\\u05C2\\u05C4\\u05C5\\u05C7\\u0610-\\u061A\\u064B-\\u065F\\u0670\\u06D6-\\u06DC\\u06DF-\\u06E4\\u06E7\\u06E8\\u06EA-\\u06ED\\u1AB0-\\u1AFF\\u1DC0-\\u1DFF\\u20D0-\\u20FF\\uFE20-\\uFE2F'
const MARK = new RegExp(`[${MARKS}]`, 'g')
/** Letters with a stroke or without a dot, which Unicode does not take apart, and what they become. */
const STROKED = 'ØøŁłĐđĦħŦŧƀɃƗɨıɈɉȺⱥȻȼɆɇǤǥƵƶ'
const PLAIN = 'OoLlDdHhTtbBIiiJjAaCcEeGgZz'

const foldAccents = (text: string) =>
  [...text.normalize('NFD')]
    .map((letter) => {
      const index = STROKED.indexOf(letter)
      return index < 0 ? letter : PLAIN[index]!
    })
    .join('')
    .replace(MARK, '')
    .normalize('NFC')

export const foldText = (how: Fold, text: string) => (how === 'casei' ? foldCase(text) : foldAccents(text))

/** Returns the same in SQL. The collation of the result is the database's, so that results can be compared. */
export const foldSql = (how: Fold, text: string) =>
  how === 'casei'
    ? `(translate(lower(upper(translate(${text}, 'ẞı', 'ß${DOTLESS_I}') collate "und-x-icu")), 'ς${DOTLESS_I}', 'σı') collate "default")`
    : `(normalize(regexp_replace(translate(normalize(${text}, nfd), '${STROKED}', '${PLAIN}'), '[${MARKS}]', '', 'g'), nfc) collate "default")`
