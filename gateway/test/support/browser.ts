// Owns the browser for tests of pages: headless Chromium, which draws the map in software.

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { after, afterEach } from 'node:test'
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core'

const executablePath = ['/usr/bin/chromium', '/usr/bin/google-chrome'].find((path) => existsSync(path))

const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

/** A page, and what it did that no page of ours may: errors, content refused by its policy, requests to other hosts. */
export type Watched = { readonly page: Page; readonly faults: string[] }

export async function openBrowser(): Promise<Browser> {
  assert.ok(executablePath, 'there is no Chromium: npm test installs it on Debian, or install it by hand')
  const browser = await chromium.launch({
    executablePath,
    args: [
      '--no-sandbox',
      '--use-gl=angle',
      '--use-angle=swiftshader',
      '--enable-unsafe-swiftshader',
      '--disable-gpu-compositing',
      // A name that is not this machine's, for what browsers do differently at localhost.
      '--host-resolver-rules=MAP gis.test 127.0.0.1',
    ],
  })
  // Pages that a test leaves open would go on drawing during the next test.
  afterEach(() => Promise.all(browser.contexts().map((context) => context.close())))
  after(() => browser.close())
  return browser
}

/** Opens a page in a browser context of its own, which shares neither keys nor caches with others. */
export async function openPage(
  browser: Browser,
  baseURL: string,
  options: BrowserContextOptions = {},
): Promise<Watched> {
  const context = await browser.newContext({ baseURL, viewport: { width: 1280, height: 900 }, ...options })
  const page = await context.newPage()
  return { page, faults: watch(page, baseURL) }
}

/** Collects the faults of a page. @param page also a second tab of a context */
export function watch(page: Page, baseURL: string): string[] {
  const faults: string[] = []
  page.on('pageerror', (error) => faults.push(`error: ${error.message}`))
  page.on('console', (message) => {
    // A response of 4xx is no fault of the page, which has to show it; tests check that themselves.
    if (message.type() === 'error' && !/status of 4\d\d/.test(message.text())) faults.push(message.text())
  })
  page.on('request', (request) => {
    const { origin, protocol } = new URL(request.url())
    if (/^https?:$/.test(protocol) && origin !== baseURL) faults.push(`asked ${request.url()}`)
  })
  return faults
}

/** Returns the accessibility rules that the page breaks with a serious or critical impact on people. */
export async function seriousFindings(page: Page): Promise<string[]> {
  await page.evaluate(axe)
  const found = await page.evaluate(async () => {
    const { violations } = await (globalThis as any).axe.run()
    return violations
      .filter(({ impact }: any) => impact === 'serious' || impact === 'critical')
      .map(({ id, nodes }: any) => `${id}: ${nodes.map(({ html }: any) => html.slice(0, 200)).join(' | ')}`)
  })
  return found as string[]
}

/** Counts the pixels of a screenshot that have this colour, within a tolerance for blended edges. */
export async function countPixels(
  browser: Browser,
  png: Buffer,
  [red, green, blue]: [number, number, number],
) {
  const context = await browser.newContext()
  const page = await context.newPage()
  const count = await page.evaluate<number>(`(async () => {
    const image = await createImageBitmap(await (await fetch('data:image/png;base64,${png.toString('base64')}')).blob())
    const drawing = new OffscreenCanvas(image.width, image.height).getContext('2d')
    drawing.drawImage(image, 0, 0)
    const pixels = drawing.getImageData(0, 0, image.width, image.height).data
    const near = (at, wanted) => Math.abs(pixels[at] - wanted) < 12
    let found = 0
    for (let at = 0; at < pixels.length; at += 4)
      if (near(at, ${red}) && near(at + 1, ${green}) && near(at + 2, ${blue})) found++
    return found
  })()`)
  await context.close()
  return count
}

/** Drags the map to the east, and waits until the page shows what is on it then. */
export async function dragMap(page: Page) {
  const box = (await page.locator('#map').boundingBox())!
  await page.mouse.move(box.x + box.width * 0.2, box.y + box.height / 2)
  await page.mouse.down()
  await page.mouse.move(box.x + box.width * 0.75, box.y + box.height / 2, { steps: 8 })
  await page.mouse.up()
  await page.getByText('on this map').waitFor()
}
