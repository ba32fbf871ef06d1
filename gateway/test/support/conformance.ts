// Owns docs/reference/conformance.md: the requirements of each conformance class, and the tests whose names begin with
// them.

import { globSync, readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { conformsTo } from '../../app.ts'
import { REQUIREMENTS } from './requirements.ts'

export const CONFORMANCE_FILE = new URL('../../../docs/reference/conformance.md', import.meta.url)

/** A test whose name begins with what it tests, as in `/req/core/root-op, /req/core/root-success: …`. */
export type NamedTest = {
  readonly file: string
  readonly title: string
  readonly requirements: readonly string[]
}

const folder = new URL('../', import.meta.url)
const NAME = /\btest\(\s*(['"`])((?:\/(?:req|conf)\/[\w${}/-]+(?:, )?)+): (.*?)\1,/g
/** The one test for each class of annex A of CQL2 has the class in its name. */
const EACH_CLASS = /\$\{conf\}/
const annex = JSON.parse(readFileSync(new URL('data/cql2/annex-a.json', folder), 'utf8')) as {
  conf: string
}[]
const annexClasses = [...new Set(annex.map(({ conf }) => conf))].toSorted()

export const namedTests: readonly NamedTest[] = globSync('**/*.test.ts', { cwd: folder })
  .toSorted()
  .flatMap((file) =>
    [...readFileSync(new URL(file, folder), 'utf8').matchAll(NAME)].map(([, , ids, title]) => ({
      file,
      title: title!,
      requirements: ids!
        .split(', ')
        .flatMap((id) =>
          EACH_CLASS.test(id) ? annexClasses.map((name) => id.replace(EACH_CLASS, name)) : [id],
        ),
    })),
  )

export const testsOf = (requirement: string) =>
  namedTests.filter(({ requirements }) => requirements.includes(requirement))

/** Returns the document. Every declared class is in it, and no other. */
export function makeConformance(): string {
  const rows = conformsTo.flatMap((uri) =>
    (REQUIREMENTS.get(uri) ?? []).map((requirement) => {
      const tests = testsOf(requirement).map(({ file, title }) => `\`${basename(file)}\`: ${title}`)
      const name = requirement.startsWith('/conf/') ? 'all' : requirement
      return `| ${classOf(uri)} | ${name} | ${tests.join('<br>')} | ${tests.length > 0 ? 'met' : 'not tested'} |`
    }),
  )
  return `# Conformance

\`npm run conformance\` writes this page from the names of the tests, and a test fails if it is out of date. The classes
are those of \`/conformance\`; each begins with \`http://www.opengis.net/spec/\`. A requirement is met if the tests whose
names begin with it pass, which \`npm test\` runs. Requirements with a condition that does not apply are left out.

| Class | Requirement | Test | State |
|---|---|---|---|
${rows.join('\n')}
`
}

const classOf = (uri: string) => uri.replace(/^.*\/spec\//, '').replace(/\/\d\.\d\/conf\//, ' ')
