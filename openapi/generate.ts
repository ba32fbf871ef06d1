// `npm run openapi`: writes openapi.json anew.

import { writeFile } from 'node:fs/promises'
import { DOCUMENT_FILE, makeDocument } from './document.ts'

await writeFile(DOCUMENT_FILE, await makeDocument())
