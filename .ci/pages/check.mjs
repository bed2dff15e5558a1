// Opens pages in Chromium as people do: on a phone and a desktop, light and
// dark. Fails on a message on the console, a request for anything else, a page
// that scrolls sideways, what axe finds, and what Tab does not reach in order.
//
//   node check.mjs http://localhost:10110/ http://localhost:10110/jobs
//   node check.mjs --screenshot jobs.png http://localhost:10110/jobs
//
// With --screenshot it draws the first page instead, and prints its title,
// headings and columns.

import { existsSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { AxeBuilder } from '@axe-core/playwright';
import { chromium } from 'playwright-core';

const { values: flags, positionals: urls } = parseArgs({
  allowPositionals: true,
  options: {
    screenshot: { type: 'string' },
    chromium: { type: 'string', default: ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync) },
  },
});

const sizes = { phone: { width: 360, height: 740 }, desktop: { width: 1280, height: 900 } };
const focusable = 'a[href], button, input:not([type=hidden]), select, summary';

const browser = await chromium.launch({ executablePath: flags.chromium });
let failures = 0;
try {
  if (flags.screenshot) {
    await screenshot(urls[0]);
  } else {
    for (const url of urls) {
      for (const size of Object.keys(sizes)) {
        for (const colorScheme of ['light', 'dark']) await check(url, size, colorScheme);
      }
    }
  }
} finally {
  await browser.close();
}
process.exitCode = failures > 0 ? 1 : 0;

async function check(url, size, colorScheme) {
  const began = Date.now();
  const found = [];
  const context = await browser.newContext({ viewport: sizes[size], colorScheme, hasTouch: size === 'phone' });
  const page = await context.newPage();
  page.on('console', (message) => found.push(`console: ${message.text()}`));
  page.on('pageerror', (error) => found.push(`error: ${error}`));
  page.on('request', (request) => { if (request.url() !== url && !request.url().startsWith('data:')) found.push(`asks for ${request.url()}`); });
  await page.goto(url);

  found.push(...await tabThrough(page));
  await page.evaluate(() => [...document.querySelectorAll('details')].slice(0, 20).forEach((details) => { details.open = true; }));
  found.push(...await reachesOut(page));
  const axe = new AxeBuilder({ page });
  if (await page.locator('tbody').count() > 50) axe.exclude('tbody:not(:nth-of-type(5n + 1))'); // it takes long, and they are alike
  const { violations } = await axe.analyze();
  for (const v of violations) found.push(`axe: ${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 200)).join('  ')}`);
  if (size === 'desktop' && colorScheme === 'light') {
    for (const width of [320, 600, 970, 1100, 1250, 1920]) {
      await page.setViewportSize({ width, height: 800 });
      found.push(...await reachesOut(page));
    }
  }
  await context.close();

  console.log(`${found.length ? 'FAIL' : 'ok'}  ${url}, ${size}, ${colorScheme}, ${Date.now() - began} ms`);
  for (const text of found) console.log(`      ${text}`);
  failures += found.length;
}

// reachesOut finds what people would have to scroll sideways for.
async function reachesOut(page) {
  return page.evaluate(() => {
    const found = [];
    const beyond = document.documentElement.scrollWidth - document.documentElement.clientWidth;
    if (beyond > 0) found.push(`at width ${innerWidth}: scrolls sideways, by ${beyond} pixels`);
    for (const e of document.querySelectorAll('main *')) {
      if (found.length < 5 && e.checkVisibility() && getComputedStyle(e).position !== 'absolute' && e.getBoundingClientRect().right > innerWidth + 1) {
        found.push(`at width ${innerWidth}: reaches out of the page: ${e.outerHTML.slice(0, 120)}`);
      }
    }
    return found;
  });
}

// tabThrough presses Tab for all that can be reached, in the order of the page;
// Enter then opens a job.
async function tabThrough(page) {
  const found = [];
  const count = await page.evaluate((focusable) => {
    window.reachable = [...document.querySelectorAll(focusable)].filter((e) => e.checkVisibility());
    return window.reachable.length;
  }, focusable);
  if (count === 0) found.push('nothing can be reached by Tab');
  for (let i = 0; i < Math.min(count, 60); i++) {
    await page.keyboard.press('Tab');
    const at = await page.evaluate(() => {
      const e = document.activeElement;
      const style = getComputedStyle(e);
      return { index: window.reachable.indexOf(e), html: e.outerHTML.slice(0, 120), seen: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 };
    });
    if (at.index !== i) { found.push(`Tab ${i + 1} reaches ${at.html}`); break; }
    if (!at.seen) found.push(`no sign of focus: ${at.html}`);
  }
  const summary = page.locator('summary').first();
  if (await summary.count() > 0) {
    const wasOpen = await page.locator('details').first().evaluate((e) => e.open);
    await summary.focus();
    await page.keyboard.press('Enter');
    if (await page.locator('details').first().evaluate((e) => e.open) === wasOpen) found.push('Enter does not open a job');
  }
  return found;
}

async function screenshot(url) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, colorScheme: 'light' });
  const page = await context.newPage();
  await page.goto(url);
  await page.screenshot({ path: flags.screenshot });
  const texts = (selector) => page.locator(selector).allInnerTexts();
  console.log((await texts('h1, h2')).map((text) => `heading: ${text.trim()}`).join('\n'));
  console.log((await texts('th[scope=col]')).map((text) => `column: ${text.trim()}`).join('\n'));
}
